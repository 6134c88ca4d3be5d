# The doors of the house. Each target is a line or two; scripts/ and recipes/ hold the work.
.PHONY: demo test check bench docs

demo: ## set up, build, train on footage of our own (or VIDEOS=dir), turn a still (or STILL=picture) into a video
	bash recipes/demo.sh

test: ## set up and pass every test
	bash scripts/test.sh

check: ## everything a change must pass: format, lints, docs, tests, licences, advisories
	bash scripts/check.sh

bench: ## this machine's peak, then every stage against it
	cargo build --release --locked && ./target/release/kinora bench

docs: ## the library pages, at target/doc
	cargo doc --workspace --no-deps --locked

#!/usr/bin/env bash
# The whole story on one machine: footage, curated; an autoencoder and an image-to-video model trained on the
# clips that stay; a still that neither has seen, and the video it becomes. Everything ends up in demo/.
#
#   make demo                                 on footage of our own
#   make demo VIDEOS=folder STILL=picture     on yours (STILL may be left out: a frame of a video is taken)
#
# A run that is interrupted goes on where it stopped; `rm -r demo` begins anew. Another still meets the model that is
# there; other videos begin anew, and what was learned before is set aside as demo.1, demo.2 and so on.
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/setup.sh
cargo build --release --locked
kinora=target/release/kinora
out=${DEMO_OUT:-demo}
videos=${VIDEOS:-}
still=${STILL:-}
truth=
started=$(date +%s)
if [ -n "$videos" ] && [ ! -d "$videos" ]; then
    echo "demo: VIDEOS=$videos: expected a folder of videos, found none there" >&2
    exit 2
fi
if [ -n "$still" ] && [ ! -f "$still" ]; then
    echo "demo: STILL=$still: expected a picture, found no file there" >&2
    exit 2
fi

# A model of other videos is not gone on with.
learned_from="footage of our own"
[ -z "$videos" ] || learned_from=$(cd "$videos" && pwd)
if [ -e "$out/learned_from.txt" ] && [ "$(cat "$out/learned_from.txt")" != "$learned_from" ]; then
    number=1
    while [ -e "$out.$number" ]; do number=$((number + 1)); done
    echo "demo: $out/ learned from $(cat "$out/learned_from.txt"); it is $out.$number/ now, and $out/ begins anew"
    mv "$out" "$out.$number"
    case $still in "$out"/*) still=$out.$number/${still#"$out"/} ;; esac
fi
mkdir -p "$out"
echo "$learned_from" > "$out/learned_from.txt"

# What it learns from, and the still it is to continue.
if [ -z "$videos" ]; then
    videos=$out/footage
    if [ ! -e "$out/footage.done" ] || [ ! -e "$out/still.png" ]; then
        "$kinora" footage "$videos" --videos 48 --width 128 --height 128 --edited \
            --held-out "$out/still.png" --subject car
        touch "$out/footage.done"
    fi
    if [ -z "$still" ]; then
        still=$out/still.png
        truth=$out/still_continued
    fi
elif [ -z "$still" ]; then
    still=$out/still.png
    while IFS= read -r file && [ ! -e "$still" ]; do
        ffmpeg -nostdin -v error -y -ss 1 -i "$file" -frames:v 1 "$still" 2>/dev/null || true
    done < <(find "$videos" -type f | sort)
    if [ ! -e "$still" ]; then
        echo "demo: $videos: expected at least one video of more than a second, found none" >&2
        exit 2
    fi
fi

# The clips that are worth learning from. Files that are no videos end as rows that say so: exit code 1.
"$kinora" curate "$videos" --config configs/small_curate.toml --out "$out/lvd" || [ $? -eq 1 ]
curated=$(date +%s)

# As many of the recipes' steps as there is time for, if all of this is to be done in six and a half minutes, and in
# eight where the machine becomes slower by a fifth: all of them take 560 training steps of `kinora bench`. But no fewer
# than 0.28 of them, where the subject is a smear that moves; with 0.15 it is not even that. Chosen once: a run that
# goes on keeps them.
if [ ! -e "$out/share_of_steps.txt" ]; then
    step_s=$("$kinora" bench --stage train-step --runs 3 --json | grep -o '"train_step_s":[0-9.]*' | cut -d: -f2)
    awk -v s="$step_s" -v spent_s="$((curated - started))" 'BEGIN {
        share = (390 - spent_s) / (560 * s); if (share > 1) share = 1; if (share < 0.28) share = 0.28
        printf "%.3f\n", share }' > "$out/share_of_steps.txt"
fi
share=$(cat "$out/share_of_steps.txt")

# First the autoencoder, then the denoiser in its latents. Of your videos, which may be few, none is kept from
# training: one that is kept is kept with all its clips.
configs=$out/configs
mkdir -p "$configs"
for name in small_autoencoder small_image_to_video; do
    all=$(sed -n 's/^steps = //p' "configs/$name.toml")
    half=$(awk -v all="$all" -v share="$share" 'BEGIN { printf "%d", all * share / 2 }')
    changes=(-e "s/^steps = .*/steps = $((2 * half))/" -e "s/^\\(checkpoint\\|sample\\)_every = .*/\\1_every = $half/")
    if [ -n "${VIDEOS:-}" ]; then
        changes+=(-e 's/^held_out = .*/held_out = 0/')
    fi
    sed "${changes[@]}" "configs/$name.toml" > "$configs/$name.toml"
done
echo "demo: $share of the recipes' steps, for a machine of this speed"
"$kinora" train "$configs/small_autoencoder.toml" --data "$out/lvd" --run "$out/runs/small_autoencoder"
# Both learn from the same frames, which the first has decoded.
frames=$out/runs/small_image_to_video/frames
if [ ! -e "$frames" ]; then
    mkdir -p "$(dirname "$frames")"
    rm -rf "$frames.unfinished"
    cp -r "$out/runs/small_autoencoder/frames" "$frames.unfinished"
    mv "$frames.unfinished" "$frames"
fi
"$kinora" train "$configs/small_image_to_video.toml" --data "$out/lvd" --run "$out/runs/small_image_to_video"
trained=$(date +%s)

# The still becomes a video.
model=$out/runs/small_image_to_video/model
"$kinora" generate "$still" --model "$model" --seed 7 --out "$out/video.mp4"
"$kinora" generate "$still" --model "$model" --seed 7 --out "$out/video.gif"
# The same, large enough to look at.
ffmpeg -nostdin -v error -y -i "$out/video.gif" \
    -vf "scale=6*iw:-1:flags=lanczos,split[a][b];[a]palettegen[p];[b][p]paletteuse" -loop 0 "$out/large.gif"
if [ -n "$truth" ]; then
    "$kinora" sheet "kinora=$out/video.mp4" "truth=$truth" --out "$out/sheet.png" --title "a still, continued"
else
    "$kinora" sheet "still=$still" "kinora=$out/video.mp4" --out "$out/sheet.png" --title "a still, continued"
fi
cp "$out/runs/small_image_to_video/loss.png" "$out/loss.png"
finished=$(date +%s)

{
    echo "# What happened"
    echo
    echo "| | |"
    echo "|---|---|"
    echo "| learned from | $videos |"
    echo "| footage and curation | $((curated - started)) s |"
    echo "| training | $((trained - curated)) s, $share of the recipes' steps |"
    echo "| everything after the build | $((finished - started)) s |"
    echo "| the still | $still |"
    echo "| the video | video.mp4, video.gif; large.gif to look at |"
    echo "| side by side | sheet.png |"
    echo "| what was kept of the videos, what not, and why | lvd/report.html |"
    echo "| the loss | loss.png |"
    echo
    echo '```'
    "$kinora" inspect "$out/video.mp4"
    echo '```'
} > "$out/summary.md"
echo "demo: done in $((finished - started)) s; look at $out/large.gif, $out/sheet.png, $out/lvd/report.html and $out/summary.md"

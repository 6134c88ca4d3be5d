#!/usr/bin/env bash
# The whole story on one machine: footage, an autoencoder, an image-to-video model, a still that neither
# has seen, and the video it becomes. Everything ends up in demo/.
#
#   make demo                                 on footage of our own
#   make demo VIDEOS=folder STILL=picture     on yours (STILL may be left out: a frame of a video is taken)
#
# A run that is interrupted goes on where it stopped; `rm -r demo` begins anew.
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/setup.sh
cargo build --release --locked
kinora=target/release/kinora
out=${DEMO_OUT:-demo}
mkdir -p "$out"
started=$(date +%s)

# What it learns from, and the still it is to continue.
videos=${VIDEOS:-}
still=${STILL:-}
truth=
if [ -z "$videos" ]; then
    videos=$out/footage
    truth=$out/still_continued
    still=$out/still.png
    [ -e "$still" ] || "$kinora" footage "$videos" --videos 48 --width 64 --height 64 --held-out "$still" --subject car
else
    # The files of the folder that are videos, in order.
    found=()
    while IFS= read -r file; do
        kind=$(ffprobe -v error -select_streams v:0 -show_entries stream=codec_type -of csv=p=0 "$file" 2>/dev/null || true)
        [ "$kind" = video ] && found+=("$file")
    done < <(find "$videos" -maxdepth 1 -type f | sort)
    if [ "${#found[@]}" -eq 0 ]; then
        echo "demo: $videos: expected at least one video, found none" >&2
        exit 2
    fi
    if [ -z "$still" ]; then
        still=$out/still.png
        [ -e "$still" ] || ffmpeg -nostdin -v error -y -ss 1 -i "${found[0]}" -frames:v 1 "$still"
    fi
    # Some videos are kept from training. Of a few long ones it is pieces of two seconds instead.
    if [ "${#found[@]}" -lt 8 ]; then
        videos=$out/pieces
        if [ ! -e "$videos" ]; then
            rm -rf "$videos.part" && mkdir -p "$videos.part"
            for number in "${!found[@]}"; do
                ffmpeg -nostdin -v error -y -i "${found[$number]}" -an -vf scale=-2:128 -c:v libx264 \
                    -force_key_frames "expr:gte(t,n_forced*2)" -f segment -segment_time 2 -reset_timestamps 1 \
                    "$videos.part/${number}_%05d.mp4"
            done
            mv "$videos.part" "$videos"
        fi
    fi
fi

# First the autoencoder, then the denoiser in its latents.
"$kinora" train configs/small_autoencoder.toml --data "$videos" --run "$out/runs/small_autoencoder"
"$kinora" train configs/small_image_to_video.toml --data "$videos" --run "$out/runs/small_image_to_video"
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
    echo "| footage and training | $((trained - started)) s |"
    echo "| everything after the build | $((finished - started)) s |"
    echo "| the still | $still |"
    echo "| the video | video.mp4, video.gif; large.gif to look at |"
    echo "| side by side | sheet.png |"
    echo "| the loss | loss.png |"
    echo
    echo '```'
    "$kinora" inspect "$out/video.mp4"
    echo '```'
} > "$out/summary.md"
echo "demo: done in $((finished - started)) s; look at $out/large.gif, $out/sheet.png and $out/summary.md"

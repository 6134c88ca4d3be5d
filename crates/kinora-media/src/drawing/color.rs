//! Colours: sRGB values in 0–1, chosen in a space whose lightness is that of the eye.

/// Red, green and blue, each in 0–1, as a screen takes them.
pub(crate) type Color = [f32; 3];

/// `share` of `b` and the rest of `a`.
pub(crate) fn mix(a: Color, b: Color, share: f32) -> Color {
    let share = share.clamp(0.0, 1.0);
    [0, 1, 2].map(|c| a[c] + (b[c] - a[c]) * share)
}

/// A colour of the lightness (0–1), chroma (0 grey, 0.2 vivid) and hue (degrees) given, in Ottosson's
/// OKLCH: two colours of one lightness look equally light, which HSL does not keep.
pub(crate) fn oklch(lightness: f32, chroma: f32, hue_degrees: f32) -> Color {
    let hue = hue_degrees.to_radians();
    let (a, b) = (chroma * hue.cos(), chroma * hue.sin());
    let long = (lightness + 0.396_337_78 * a + 0.215_803_76 * b).powi(3);
    let medium = (lightness - 0.105_561_346 * a - 0.063_854_17 * b).powi(3);
    let short = (lightness - 0.089_484_18 * a - 1.291_485_5 * b).powi(3);
    [
        4.076_741_7 * long - 3.307_711_6 * medium + 0.230_969_94 * short,
        -1.268_438 * long + 2.609_757_4 * medium - 0.341_319_4 * short,
        -0.004_196_086_3 * long - 0.703_418_6 * medium + 1.707_614_7 * short,
    ]
    .map(srgb_from_linear)
}

fn srgb_from_linear(value: f32) -> f32 {
    let value = value.clamp(0.0, 1.0);
    if value <= 0.003_130_8 {
        12.92 * value
    } else {
        1.055 * value.powf(1.0 / 2.4) - 0.055
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_and_a_known_colour() {
        for (lightness, level) in [(0.0, 0.0), (1.0, 1.0)] {
            assert!(
                oklch(lightness, 0.0, 50.0)
                    .iter()
                    .all(|c| (c - level).abs() < 1e-3)
            );
        }
        // Pure sRGB red is L 0.62796, C 0.25768, h 29.234° in OKLCH.
        let red = oklch(0.627_96, 0.257_68, 29.234);
        let difference = [1.0, 0.0, 0.0]
            .iter()
            .zip(red)
            .map(|(a, b): (&f32, _)| (a - b).abs());
        assert!(difference.fold(0.0, f32::max) < 0.01, "{red:?}");
        assert_eq!(mix([0.0; 3], [1.0; 3], 0.25), [0.25; 3]);
        assert_eq!(mix([0.0; 3], [1.0; 3], 7.0), [1.0; 3]);
    }
}

//! A picture as a JPEG in memory, and in another size.

use super::Rgb8Image;
use image::codecs::jpeg::JpegEncoder;
use image::imageops::{FilterType, resize};

impl Rgb8Image {
    /// The bytes of a JPEG file, the same for the same picture; `quality` 1 to 100.
    ///
    /// # Panics
    /// When a side is longer than the 65535 pixels a JPEG can have.
    pub fn to_jpeg(&self, quality: u8) -> Vec<u8> {
        let mut bytes = Vec::new();
        let (width, height) = (self.width as u32, self.height as u32);
        JpegEncoder::new_with_quality(&mut bytes, quality)
            .encode(&self.data, width, height, image::ExtendedColorType::Rgb8)
            .expect("memory takes every byte, and the sides fit a JPEG");
        bytes
    }

    /// The bytes of a binary PPM file: a header and the pixels as they are.
    pub fn to_ppm(&self) -> Vec<u8> {
        let mut bytes = format!("P6\n{} {}\n255\n", self.width, self.height).into_bytes();
        bytes.extend_from_slice(&self.data);
        bytes
    }

    /// The picture in another size, by a triangle filter that is widened when shrinking, so that
    /// nothing flickers.
    ///
    /// # Panics
    /// When a side is zero.
    pub fn resized(&self, width: usize, height: usize) -> Rgb8Image {
        assert!(width > 0 && height > 0, "a picture of {width}×{height}");
        if (width, height) == (self.width, self.height) {
            return self.clone();
        }
        let whole =
            image::RgbImage::from_raw(self.width as u32, self.height as u32, self.data.clone())
                .expect("three bytes for every pixel");
        let data = resize(&whole, width as u32, height as u32, FilterType::Triangle).into_raw();
        Rgb8Image {
            width,
            height,
            data,
        }
    }

    /// The picture with its longer side at most `long_side` pixels, its proportions kept.
    pub fn shrunk(&self, long_side: usize) -> Rgb8Image {
        let longest = self.width.max(self.height);
        if longest <= long_side.max(1) {
            return self.clone();
        }
        let scale = |side: usize| ((side * long_side + longest / 2) / longest).max(1);
        self.resized(scale(self.width), scale(self.height))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp(width: usize, height: usize) -> Rgb8Image {
        Rgb8Image::from_fn(width, height, |x, y| [(2 * x) as u8, (3 * y) as u8, 90])
    }

    #[test]
    fn a_jpeg_decodes_to_nearly_the_same() {
        let picture = ramp(64, 40);
        let bytes = picture.to_jpeg(92);
        let back = image::load_from_memory(&bytes).unwrap().into_rgb8();
        assert_eq!(back.dimensions(), (64, 40));
        let worst = back.iter().zip(picture.data()).map(|(a, b)| a.abs_diff(*b));
        assert!(worst.max().unwrap() <= 6);
        assert_eq!(bytes, picture.to_jpeg(92));
    }

    #[test]
    fn a_ppm_decodes_to_the_same() {
        let picture = ramp(13, 7);
        let back = image::load_from_memory(&picture.to_ppm())
            .unwrap()
            .into_rgb8();
        assert_eq!(back.as_raw(), picture.data());
    }

    #[test]
    fn shrinking_keeps_proportions_and_ramps() {
        let small = ramp(100, 50).shrunk(20);
        assert_eq!((small.width(), small.height()), (20, 10));
        // A ramp averaged over five pixels is the ramp at the middle one.
        assert_eq!(small.pixel(10, 5), [104, 81, 90]);
        let same = ramp(10, 5).shrunk(20);
        assert_eq!((same.width(), same.height()), (10, 5));
        let thin = Rgb8Image::from_fn(1000, 1, |_, _| [7; 3]).shrunk(10);
        assert_eq!((thin.width(), thin.height()), (10, 1));
    }
}

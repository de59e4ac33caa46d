//! Decodes one image file to pixels of a requested size, within limits that hold for hostile files too.

use std::fs::File;
use std::io::{BufRead, BufReader, Seek};
use std::path::Path;

use anyhow::Result;
use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::{U8, U8x3};
use fast_image_resize::{FilterType, PixelTrait, ResizeAlg, ResizeOptions, Resizer};
use image::{DynamicImage, ImageDecoder, ImageReader, Limits};

use crate::error::InputError;

/// Maximum number of pixels along one side of an image file.
const MAX_SIDE: u32 = 20_000;

/// Maximum number of bytes the decoder of one image may allocate.
const MAX_DECODED_BYTES: u64 = 512 << 20;

/// File name extensions that are read.
const EXTENSIONS: [&str; 3] = ["png", "jpg", "jpeg"];

/// Whether a path is a file whose name ends like a PNG or JPEG.
pub fn is_image_file(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    EXTENSIONS.contains(&extension.as_str()) && path.is_file()
}

/// Decodes a PNG or JPEG, applies its EXIF orientation, converts it to grey (1 channel) or RGB (3), resizes
/// it to the requested size (bilinear, antialiased) and returns its bytes, planar `[channels, height,
/// width]`.
///
/// # Errors
/// [`InputError`] with the file's path if it is missing, truncated, not an image, or too large.
pub fn decode_image(path: &Path, shape: [usize; 3]) -> Result<Vec<u8>> {
    let name = path.display().to_string();
    let file = File::open(path).map_err(|error| refused(&name, error.to_string()))?;
    decode_from(BufReader::new(file), &name, shape)
}

/// Like [`decode_image`], from any source; `name` is used in errors.
///
/// # Errors
/// The same as [`decode_image`].
pub fn decode_from(
    source: impl BufRead + Seek,
    name: &str,
    [channels, height, width]: [usize; 3],
) -> Result<Vec<u8>> {
    let fail = |problem: String| InputError::new(format!("{name}: {problem}"));
    let image = decode(source).map_err(|problem| refused(name, problem))?;
    let (from, to) = ([image.height(), image.width()], [height as u32, width as u32]);
    let area = height * width;
    let mut bytes = vec![0; channels * area];
    let resized = match channels {
        1 => resize::<U8>(&image.into_luma8(), from, &mut bytes, to),
        3 => resize::<U8x3>(&image.into_rgb8(), from, &mut bytes, to),
        other => return Err(fail(format!("cannot be read with {other} channels, only 1 or 3")).into()),
    };
    resized.map_err(|error| fail(error.to_string()))?;
    Ok((0..channels * area).map(|index| bytes[index % area * channels + index / area]).collect())
}

/// Resizes pixels of one type. A resizer for every type would make up a twelfth of the program's size.
fn resize<P: PixelTrait>(
    source: &[u8],
    [source_height, source_width]: [u32; 2],
    target: &mut [u8],
    [height, width]: [u32; 2],
) -> Result<()> {
    let source = TypedImageRef::<P>::from_buffer(source_width, source_height, source)?;
    let mut target = TypedImage::<P>::from_buffer(width, height, target)?;
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
    Ok(Resizer::new().resize_typed(&source, &mut target, &options)?)
}

fn refused(name: &str, problem: String) -> InputError {
    InputError::new(format!("{name}: {problem}")).hint("replace the file or remove it")
}

fn decode(source: impl BufRead + Seek) -> Result<DynamicImage, String> {
    let text = |error: image::ImageError| error.to_string().trim_end().to_string();
    let reader = ImageReader::new(source).with_guessed_format();
    let mut reader = reader.map_err(|error| error.to_string())?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_DECODED_BYTES);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(text)?;
    if decoder.total_bytes() > MAX_DECODED_BYTES {
        let (width, height) = decoder.dimensions();
        return Err(format!("{width}x{height} pixels need more than {MAX_DECODED_BYTES} bytes"));
    }
    let orientation = decoder.orientation().map_err(text)?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(text)?;
    image.apply_orientation(orientation);
    Ok(image)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        file
    }

    #[test]
    fn planar_rgb_of_the_wanted_size() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        image::RgbImage::from_pixel(7, 5, image::Rgb([10, 20, 30])).save(&path).unwrap();
        let pixels = decode_image(&path, [3, 2, 4]).unwrap();
        assert_eq!(pixels, [[10; 8], [20; 8], [30; 8]].concat());
        assert_eq!(decode_image(&path, [1, 1, 1]).unwrap().len(), 1);
    }

    #[test]
    fn hostile_files_are_refused_by_name() {
        // A PNG signature and a header that claims 100,000 x 100,000 grey pixels, with a correct checksum.
        let mut header = b"IHDR\x00\x01\x86\xa0\x00\x01\x86\xa0\x08\x00\x00\x00\x00".to_vec();
        let mut crc = flate2::Crc::new();
        crc.update(&header);
        header.extend(crc.sum().to_be_bytes());
        let huge = [b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0d".as_slice(), &header].concat();
        for bytes in [huge.as_slice(), b"", b"\xff\xd8\xff\xe0\x00", b"no image at all"] {
            let file = file(bytes);
            let error = decode_image(file.path(), [3, 8, 8]).unwrap_err();
            assert!(error.is::<InputError>(), "{error:#}");
            assert!(error.to_string().starts_with(&file.path().display().to_string()), "{error}");
        }
    }
}

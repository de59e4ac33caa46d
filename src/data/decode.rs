//! Decodes one image file to pixels of a requested size, within limits that hold for hostile files too.

use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, Read, Seek};
use std::path::Path;

use anyhow::Result;
use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::{U8, U8x3};
use fast_image_resize::{FilterType, PixelTrait, ResizeAlg, ResizeOptions, Resizer};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};

use crate::config::Truncated;
use crate::contract::Fit;
use crate::error::InputError;

use super::fit::{Span, spans};
use super::jpeg;

/// Maximum number of pixels along one side of an image file.
const MAX_SIDE: u32 = 20_000;

/// Maximum number of bytes the decoder of one image may allocate.
const MAX_DECODED_BYTES: u64 = 512 << 20;

/// Maximum number of bytes of an image file.
const MAX_FILE_BYTES: u64 = 512 << 20;

/// What is wrong with a truncated JPEG file.
pub(super) const TRUNCATED: &str = "the image's data end too early, the file is truncated";

/// What to do about it.
const ALLOW_TRUNCATED: &str = "replace the file or remove it; with `truncated: allow` in a folder source, and with \
     `predict --allow-truncated`, what is missing of a JPEG file is filled with grey";

/// Value of the pixels that an image does not cover.
const BACKGROUND: u8 = 0;

/// Decodes an image, of several the first, applies its EXIF orientation, converts it to grey (1 channel) or RGB (3), brings it
/// to the requested size (bilinear, antialiased) and returns its bytes, planar `[channels, height, width]`.
///
/// # Errors
/// [`InputError`] with the file's path if it is missing, not an image, too large, or truncated, unless it is a JPEG file and
/// these are allowed.
pub fn decode_image(path: &Path, shape: [usize; 3], fit: Fit, truncated: Truncated) -> Result<Vec<u8>> {
    let name = path.display().to_string();
    let mut bytes = Vec::new();
    let read = opened(path, &name)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|error| refused(&name, error.to_string()))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(refused(&name, format!("the file has more than {MAX_FILE_BYTES} bytes")).into());
    }
    decode_from(&bytes, &name, shape, fit, truncated)
}

/// Height and width of an image with its EXIF orientation applied, from its header.
///
/// # Errors
/// The same as [`decode_image`].
pub(super) fn size_of(path: &Path) -> Result<[usize; 2]> {
    let name = path.display().to_string();
    let size = |source: &mut dyn Source| {
        let (decoder, orientation) = decoder(source)?;
        let (width, height) = decoder.dimensions();
        let (height, width) = (height as usize, width as usize);
        Ok(match orientation {
            Orientation::Rotate90
            | Orientation::Rotate270
            | Orientation::Rotate90FlipH
            | Orientation::Rotate270FlipH => [width, height],
            Orientation::NoTransforms
            | Orientation::Rotate180
            | Orientation::FlipHorizontal
            | Orientation::FlipVertical => [height, width],
        })
    };
    size(&mut opened(path, &name)?).map_err(|problem| refused(&name, problem).into())
}

fn opened(path: &Path, name: &str) -> Result<BufReader<File>, InputError> {
    File::open(path).map(BufReader::new).map_err(|error| refused(name, error.to_string()))
}

/// Like [`decode_image`], from the bytes of a file; `name` is used in errors.
///
/// # Errors
/// The same as [`decode_image`].
pub fn decode_from(
    file: &[u8],
    name: &str,
    [channels, height, width]: [usize; 3],
    fit: Fit,
    truncated: Truncated,
) -> Result<Vec<u8>> {
    let fail = |problem: String| InputError::new(format!("{name}: {problem}"));
    if truncated == Truncated::Refuse
        && image::guess_format(file).is_ok_and(|format| format == ImageFormat::Jpeg)
        && !jpeg::is_whole(file)
    {
        return Err(InputError::new(format!("{name}: {TRUNCATED}")).hint(ALLOW_TRUNCATED).into());
    }
    let image = decode(&mut Cursor::new(file)).map_err(|problem| refused(name, problem))?;
    let size = [image.height(), image.width()];
    let [rows, columns] = spans(fit, size.map(|side| side as usize), [height, width]);
    let mut bytes = vec![0; channels * rows.filled * columns.filled];
    let resized = match channels {
        1 => resize::<U8>(&image.into_luma8(), size, &mut bytes, [rows, columns]),
        3 => resize::<U8x3>(&image.into_rgb8(), size, &mut bytes, [rows, columns]),
        other => return Err(fail(format!("cannot be read with {other} channels, only 1 or 3")).into()),
    };
    resized.map_err(|error| fail(error.to_string()))?;
    let mut planes = vec![BACKGROUND; channels * height * width];
    for (place, pixel) in bytes.chunks_exact(channels).enumerate() {
        let (row, column) = (rows.start + place / columns.filled, columns.start + place % columns.filled);
        for (channel, byte) in pixel.iter().enumerate() {
            planes[(channel * height + row) * width + column] = *byte;
        }
    }
    Ok(planes)
}

/// Resizes pixels of one type. A resizer for every type would make up a twelfth of the program's size.
///
/// The filter reads beyond the part that is taken, so that the result is what one cuts out of the whole image resized; the
/// whole one is never made, because a very long image would need too much memory.
fn resize<P: PixelTrait>(
    source: &[u8],
    [source_height, source_width]: [u32; 2],
    target: &mut [u8],
    [rows, columns]: [Span; 2],
) -> Result<()> {
    let source = TypedImageRef::<P>::from_buffer(source_width, source_height, source)?;
    let mut target = TypedImage::<P>::from_buffer(columns.filled as u32, rows.filled as u32, target)?;
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear)).crop(
        columns.from,
        rows.from,
        columns.taken,
        rows.taken,
    );
    Ok(Resizer::new().resize_typed(&source, &mut target, &options)?)
}

fn refused(name: &str, problem: String) -> InputError {
    InputError::new(format!("{name}: {problem}")).hint("replace the file or remove it")
}

/// Where an image is read from; a trait object, because one copy of all decoders for each kind of source would be large.
trait Source: BufRead + Seek {}

impl<S: BufRead + Seek> Source for S {}

fn decode(source: &mut dyn Source) -> Result<DynamicImage, String> {
    let (decoder, orientation) = decoder(source)?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(told)?;
    image.apply_orientation(orientation);
    Ok(image)
}

fn told(error: image::ImageError) -> String {
    error.to_string().trim_end().to_string()
}

/// A file whose header was read and found to be within the limits, and its orientation.
fn decoder(source: &mut dyn Source) -> Result<(impl ImageDecoder, Orientation), String> {
    let reader = ImageReader::new(source).with_guessed_format();
    let mut reader = reader.map_err(|error| error.to_string())?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_DECODED_BYTES);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(told)?;
    if decoder.total_bytes() > MAX_DECODED_BYTES {
        let (width, height) = decoder.dimensions();
        return Err(format!("{width}x{height} pixels need more than {MAX_DECODED_BYTES} bytes"));
    }
    let orientation = decoder.orientation().map_err(told)?;
    Ok((decoder, orientation))
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
        let pixels = decode_image(&path, [3, 2, 4], Fit::Stretch, Truncated::Refuse).unwrap();
        assert_eq!(pixels, [[10; 8], [20; 8], [30; 8]].concat());
        assert_eq!(decode_image(&path, [1, 1, 1], Fit::Stretch, Truncated::Refuse).unwrap().len(), 1);
    }

    /// A grey image of the given height and width without two equal neighbours, as a file.
    fn picture(height: u32, width: u32) -> tempfile::NamedTempFile {
        let pixel = |x: u32, y: u32| image::Luma([((31 * x + 57 * y + x * y) % 251) as u8]);
        let mut bytes = std::io::Cursor::new(Vec::new());
        let image = image::GrayImage::from_fn(width, height, pixel);
        image.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
        file(bytes.get_ref())
    }

    fn rows(pixels: &[u8], width: usize) -> Vec<&[u8]> {
        pixels.chunks_exact(width).collect()
    }

    #[test]
    fn without_a_change_of_size_pixels_are_moved_only() {
        let tall = picture(4, 2);
        let whole = decode_image(tall.path(), [1, 4, 2], Fit::Stretch, Truncated::Refuse).unwrap();
        assert_eq!(whole, [0, 31, 57, 89, 114, 147, 171, 205]);
        // 2 / 0.875 is 2 pixels once rounded down.
        let cut = decode_image(tall.path(), [1, 2, 2], Fit::Crop, Truncated::Refuse).unwrap();
        assert_eq!(cut, [57, 89, 114, 147]);
        let boxed = decode_image(tall.path(), [1, 4, 5], Fit::Letterbox, Truncated::Refuse).unwrap();
        assert_eq!(rows(&boxed, 5)[..2], [[0, 0, 31, 0, 0], [0, 57, 89, 0, 0]]);
        let wide = decode_image(picture(2, 4).path(), [1, 4, 4], Fit::Letterbox, Truncated::Refuse).unwrap();
        assert_eq!(rows(&wide, 4), [[0; 4], [0, 31, 62, 93], [57, 89, 121, 153], [0; 4]]);
        let colour = decode_image(tall.path(), [3, 2, 2], Fit::Crop, Truncated::Refuse).unwrap();
        assert_eq!(colour, cut.repeat(3));
    }

    /// Wide and tall images, made smaller and larger.
    #[test]
    fn a_crop_is_cut_from_the_whole_image_resized() {
        for (size, wanted, resized, [top, left]) in [
            ([20, 50], [14, 14], [16, 40], [1, 13]),
            ([50, 20], [14, 14], [40, 16], [13, 1]),
            ([5, 9], [14, 14], [16, 28], [1, 7]),
            ([9, 5], [14, 14], [28, 16], [7, 1]),
            ([30, 30], [7, 14], [16, 16], [4, 1]),
        ] {
            let file = picture(size[0], size[1]);
            let whole =
                decode_image(file.path(), [1, resized[0], resized[1]], Fit::Stretch, Truncated::Refuse)
                    .unwrap();
            let expected: Vec<u8> = rows(&whole, resized[1])[top..top + wanted[0]]
                .iter()
                .flat_map(|row| row[left..left + wanted[1]].iter().copied())
                .collect();
            let found =
                decode_image(file.path(), [1, wanted[0], wanted[1]], Fit::Crop, Truncated::Refuse).unwrap();
            assert_eq!(found, expected, "{size:?} to {wanted:?}");
        }
    }

    #[test]
    fn a_letterbox_holds_the_whole_image_on_black() {
        for (size, resized, [top, left]) in
            [([20, 50], [4, 11], [3, 0]), ([50, 20], [11, 4], [0, 3]), ([3, 5], [6, 11], [2, 0])]
        {
            let file = picture(size[0], size[1]);
            let whole =
                decode_image(file.path(), [1, resized[0], resized[1]], Fit::Stretch, Truncated::Refuse)
                    .unwrap();
            let found = decode_image(file.path(), [1, 11, 11], Fit::Letterbox, Truncated::Refuse).unwrap();
            let mut expected = vec![0; 121];
            for (row, pixels) in rows(&whole, resized[1]).iter().enumerate() {
                expected[(top + row) * 11 + left..][..resized[1]].copy_from_slice(pixels);
            }
            assert_eq!(found, expected, "{size:?}");
        }
    }

    #[test]
    fn a_very_long_image_needs_no_more_memory() {
        let line = picture(1, 20_000);
        assert_eq!(
            decode_image(line.path(), [1, 224, 224], Fit::Crop, Truncated::Refuse).unwrap().len(),
            224 * 224
        );
        assert_eq!(size_of(line.path()).unwrap(), [1, 20_000]);
    }

    /// Every format, cut everywhere: refused, or the same pixels. A JPEG file may be filled, if that is asked for.
    #[test]
    fn truncated_files_are_refused() {
        let picture = image::RgbImage::from_fn(24, 16, |x, y| image::Rgb([x as u8 * 9, y as u8 * 13, 77]));
        for format in [
            ImageFormat::Png,
            ImageFormat::Jpeg,
            ImageFormat::WebP,
            ImageFormat::Bmp,
            ImageFormat::Gif,
            ImageFormat::Tiff,
        ] {
            let mut file = Cursor::new(Vec::new());
            DynamicImage::ImageRgb8(picture.clone()).write_to(&mut file, format).unwrap();
            let file = file.into_inner();
            let read =
                |bytes: &[u8], truncated| decode_from(bytes, "it", [3, 16, 24], Fit::Stretch, truncated);
            let whole = read(&file, Truncated::Refuse).unwrap();
            for end in 0..file.len() {
                match read(&file[..end], Truncated::Refuse) {
                    Ok(pixels) => assert!(pixels == whole, "{format:?} {end} of {} bytes", file.len()),
                    Err(error) => assert!(error.is::<InputError>(), "{error:#}"),
                }
            }
            let most = read(&file[..file.len() - 3], Truncated::Allow);
            assert_eq!(most.is_ok(), format == ImageFormat::Jpeg || most.is_ok_and(|most| most == whole));
        }
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
            let error = decode_image(file.path(), [3, 8, 8], Fit::Stretch, Truncated::Refuse).unwrap_err();
            assert!(error.is::<InputError>(), "{error:#}");
            assert!(error.to_string().starts_with(&file.path().display().to_string()), "{error}");
        }
    }
}

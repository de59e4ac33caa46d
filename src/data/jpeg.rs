//! Whether a JPEG file is whole: its decoder fills what is missing with grey and says nothing.

/// Second byte of a marker, which follows 0xFF (ITU-T T.81, table B.1).
const END_OF_IMAGE: u8 = 0xD9;
const START_OF_IMAGE: u8 = 0xD8;
const TEMPORARY: u8 = 0x01;
const RESTARTS: std::ops::RangeInclusive<u8> = 0xD0..=0xD7;

/// Whether the bytes of a JPEG file reach the end of its image. Markers within segments, such as those of a thumbnail, do
/// not count, and neither does what follows the end.
pub(super) fn is_whole(file: &[u8]) -> bool {
    let mut rest = file;
    loop {
        // Anything up to the next marker is the data of a scan; there, 0xFF 0x00 stands for a byte 0xFF.
        let Some(at) = rest.iter().position(|&byte| byte == 0xFF) else { return false };
        let Some(&marker) = rest.get(at + 1) else { return false };
        rest = &rest[at + 1..];
        let skipped = match marker {
            END_OF_IMAGE => return true,
            // A second 0xFF is padding before a marker.
            0xFF => 0,
            0x00 | TEMPORARY | START_OF_IMAGE => 1,
            marker if RESTARTS.contains(&marker) => 1,
            // The length of a segment counts its own two bytes.
            _ => match rest {
                [_, high, low, ..] => 1 + usize::from(u16::from_be_bytes([*high, *low])),
                _ => return false,
            },
        };
        let Some(behind) = rest.get(skipped..) else { return false };
        rest = behind;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_of_the_image_itself_is_its_end() {
        let mut jpeg = Vec::new();
        let picture = image::RgbImage::from_fn(40, 30, |x, y| image::Rgb([x as u8 * 6, y as u8 * 7, 250]));
        image::codecs::jpeg::JpegEncoder::new(&mut jpeg).encode_image(&picture).unwrap();
        // A thumbnail in an application segment, with an end of its own.
        let length = (jpeg.len() as u16 + 2).to_be_bytes();
        let with_thumbnail = [&[0xFF, 0xD8, 0xFF, 0xE1], &length[..], &jpeg, &jpeg[2..]].concat();
        for whole in [&jpeg, &with_thumbnail] {
            assert!(is_whole(whole));
            assert!(is_whole(&[whole.as_slice(), b"behind the end"].concat()));
            for cut in 1..whole.len() {
                assert!(!is_whole(&whole[..whole.len() - cut]), "{cut} of {} bytes", whole.len());
            }
            let padded = [&whole[..whole.len() / 2], &[0; 4096]].concat();
            assert!(!is_whole(&padded));
        }
    }
}

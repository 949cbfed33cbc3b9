//! What an image needs besides itself: the backing file and the data file that a qcow2 header names.
//!
//! Whoever owns an image wrote its header, and QEMU understands more than can be followed here (`json:` names,
//! network addresses). So there are three answers: nothing, these files, and "it cannot be told". The third never
//! counts as the first: what is deleted below an image is gone for whoever uses it.
use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// Longest name of a backing file that the format allows.
const NAME_MAX_BYTES: usize = 1023;
/// The header up to and including its own length, which version 3 has.
const HEADER_BYTES: usize = 104;
/// What version 2 has of it.
const OLD_HEADER_BYTES: usize = 72;
/// How far extensions of the header are read: they must fit into the first cluster, whose usual size this is.
const EXTENSIONS_MAX_BYTES: u64 = 64 * 1024;
/// The feature "guest data are in another file".
const EXTERNAL_DATA: u64 = 1 << 2;
/// The extension that names that file.
const DATA_FILE_NAME: u32 = 0x4441_5441;

/// The files that the image `file` names; inside, why it cannot be told.
pub(super) fn needs(file: &fs::File) -> std::io::Result<Result<Vec<PathBuf>, String>> {
    let mut header = Vec::new();
    file.take(HEADER_BYTES as u64).read_to_end(&mut header)?;
    if !header.starts_with(b"QFI\xfb") {
        return Ok(Ok(Vec::new()));
    }
    let Some(header) = Header::parse(&header) else {
        return Ok(Err("its header is cut off, or of a version that is not known here".to_owned()));
    };
    let mut names = Vec::new();
    if header.backing_at != 0 && header.backing_bytes != 0 {
        let mut name = vec![0; header.backing_bytes.min(NAME_MAX_BYTES + 1)];
        if name.len() > NAME_MAX_BYTES || file.read_exact_at(&mut name, header.backing_at).is_err() {
            return Ok(Err("its header does not hold the name of its backing file".to_owned()));
        }
        names.push(name);
    }
    if header.data_elsewhere {
        match data_file(file, header.extensions_at)? {
            Some(name) => names.push(name),
            None => return Ok(Err("its data are in another file that its header does not name".to_owned())),
        }
    }
    Ok(names.iter().map(|name| plain(name)).collect())
}

struct Header {
    backing_at: u64,
    backing_bytes: usize,
    data_elsewhere: bool,
    extensions_at: u64,
}

impl Header {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let long = |at: usize| Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let (backing_at, backing_bytes) = (long(8)?, word(16)? as usize);
        let (data_elsewhere, extensions_at) = match word(4)? {
            2 if bytes.len() >= OLD_HEADER_BYTES => (false, OLD_HEADER_BYTES as u64),
            3 => (long(72)? & EXTERNAL_DATA != 0, u64::from(word(100)?)),
            _ => return None,
        };
        Some(Self { backing_at, backing_bytes, data_elsewhere, extensions_at })
    }
}

/// The name of the data file, in the extensions of the header.
fn data_file(file: &fs::File, at: u64) -> std::io::Result<Option<Vec<u8>>> {
    let mut bytes = vec![0; EXTENSIONS_MAX_BYTES as usize];
    let read = file.read_at(&mut bytes, at)?;
    let mut rest = &bytes[..read];
    while let Some((kind, after)) = rest.split_first_chunk::<4>()
        && let Some((length, after)) = after.split_first_chunk::<4>()
    {
        let (kind, length) = (u32::from_be_bytes(*kind), u32::from_be_bytes(*length) as usize);
        if kind == 0 {
            break;
        }
        if kind == DATA_FILE_NAME {
            return Ok(after.get(..length).map(<[u8]>::to_vec));
        }
        let Some(next) = after.get(length.next_multiple_of(8)..) else { break };
        rest = next;
    }
    Ok(None)
}

/// The path that a name is, if it is no more than that.
fn plain(name: &[u8]) -> Result<PathBuf, String> {
    // "file:" is the long form of a plain name.
    let path = name.strip_prefix(b"file:").unwrap_or(name);
    let before_folders = path.split(|byte| *byte == b'/').next().unwrap_or(path);
    if path.is_empty() || path.contains(&0) || before_folders.contains(&b':') {
        let short: String = String::from_utf8_lossy(name).chars().take(120).collect();
        return Err(format!("it names {short:?}, which is not simply a file"));
    }
    Ok(PathBuf::from(OsStr::from_bytes(path)))
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;
    use sexton_testkit::fuzz::{Form, Fuzz};

    use super::*;

    /// An image of version 3 with this backing file and, if any, this data file.
    pub(crate) fn image(backing: &[u8], data: Option<&[u8]>) -> Vec<u8> {
        let mut image = b"QFI\xfb\0\0\0\x03".to_vec();
        image.extend(512_u64.to_be_bytes());
        image.extend((backing.len() as u32).to_be_bytes());
        image.resize(72, 0);
        image.extend(if data.is_some() { EXTERNAL_DATA } else { 0 }.to_be_bytes());
        image.resize(100, 0);
        image.extend(104_u32.to_be_bytes());
        // An extension that is of no interest, and not of a multiple of eight bytes.
        image.extend([0x68, 3, 0xf8, 0x57, 0, 0, 0, 3, 1, 2, 3, 0, 0, 0, 0, 0]);
        if let Some(data) = data {
            image.extend(DATA_FILE_NAME.to_be_bytes());
            image.extend((data.len() as u32).to_be_bytes());
            image.extend(data);
        }
        image.resize(512, 0);
        image.extend(backing);
        image
    }

    fn read(bytes: &[u8]) -> Result<Vec<PathBuf>, String> {
        use std::io::{Seek, Write};
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file.rewind().unwrap();
        needs(&file).unwrap()
    }

    #[test]
    fn plain_names_are_read() {
        assert_eq!(read(&image(b"base.qcow2", None)), Ok(vec!["base.qcow2".into()]));
        assert_eq!(read(&image(b"file:/a/b:c.raw", None)), Ok(vec!["/a/b:c.raw".into()]));
        assert_eq!(read(&image(b"", Some(b"data.raw"))), Ok(vec!["data.raw".into()]));
        assert_eq!(read(&image(b"b.raw", Some(b"d.raw"))), Ok(vec!["b.raw".into(), "d.raw".into()]));
        assert_eq!(read(&image(b"", None)), Ok(Vec::new()));
        assert_eq!(read(b"no image"), Ok(Vec::new()));
    }

    #[test]
    fn what_cannot_be_followed_is_never_nothing() {
        let long = vec![b'x'; NAME_MAX_BYTES + 1];
        for name in
            [&br#"json:{"file":{"filename":"base.qcow2"}}"#[..], b"nbd://host/base", b"rbd:p/i", &long]
        {
            assert!(read(&image(name, None)).is_err(), "{}", String::from_utf8_lossy(name));
        }
        let whole = image(b"base.qcow2", None);
        for length in [5, 19, 71, 103, whole.len() - 1] {
            assert!(read(&whole[..length]).is_err(), "of {length} bytes");
        }
        let mut nameless = image(b"", Some(b"data.raw"));
        nameless[120] = 0x45;
        assert!(read(&nameless).is_err());
        let mut later = image(b"", None);
        later[7] = 4;
        assert!(read(&later).is_err());
    }

    #[test]
    fn fuzz_images() {
        use std::io::Seek;
        let file = tempfile::tempfile().unwrap();
        let target = Fuzz::new("images", Form::Bytes).seed(image(b"base.qcow2", Some(b"data.raw"))).slow(2);
        target.seed(image(b"file:/a/b:c.raw", None)).run(|bytes| {
            file.set_len(0).unwrap();
            file.write_all_at(bytes, 0).unwrap();
            (&file).rewind().unwrap();
            let names = needs(&file).unwrap_or_else(|error| Err(error.to_string()))?;
            assert!(names.iter().all(|name| !name.as_os_str().is_empty()), "{names:?}");
            Ok(())
        });
    }

    proptest! {
        #[test]
        fn any_header_is_judged(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&[b"QFI\xfb\0\0\0\x03".to_vec(), bytes].concat());
        }
    }
}

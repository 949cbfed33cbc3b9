//! The file of signed checkpoints: JSON lines, only ever appended to, and locked while that is done.
//!
//! A loss of power may leave a last line without its end. It is completed if it is the beginning of what the job table
//! holds there; of anything else nobody can know what it was, so nothing is written until a person has looked.
use std::fs::{File, TryLockError};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use sexton_model::attest::{Attestation, LINE_MAX_BYTES, Newest, SignedCheckpoint};
use sexton_protocol::BeaconVerifier;

/// Largest file that is read while somebody waits for the answer, in bytes: that takes a few seconds.
const READ_MAX_BYTES: u64 = 64 << 20;

/// Why the file cannot be gone on with. Nothing was written, or the beginning of what will be completed.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file system refused.
    #[error("{}", .0.display())]
    Io(PathBuf, #[source] io::Error),
    /// Somebody else appends to it.
    #[error("{} is locked by another process: each coordinator needs one of its own ([audit] checkpoints)", .0.display())]
    Locked(PathBuf),
    /// Its last line is none of these.
    #[error("{}: its last line is no signed checkpoint: {why}", file.display())]
    Form {
        /// The file.
        file: PathBuf,
        /// Why it is none.
        why: String,
    },
    /// Its last line has no end, and begins as no line that belongs there.
    #[error(
        "{}: its last line is cut short, and is not the beginning of what the job table holds there: look at it, and \
         remove that line if a loss of power explains it", .0.display()
    )]
    Torn(PathBuf),
    /// A line is not what was signed.
    #[error("{}: line {line}: {why}", file.display())]
    Line {
        /// The file.
        file: PathBuf,
        /// Which line, from 1.
        line: u64,
        /// What is wrong.
        why: String,
    },
    /// Nobody waits for so long.
    #[error("{} is larger than {READ_MAX_BYTES} bytes: compare it with sexton verify", .0.display())]
    TooLarge(PathBuf),
}

/// The newest head of each chain that the file knows of. Not locked: it only grows. Blocks for as long as the disk takes.
///
/// # Errors
/// [`FileError::TooLarge`], [`FileError::Line`] for one that nobody who is known has signed, or that is longer than any may be,
/// [`FileError::Io`].
pub fn newest(path: &Path, verifier: &BeaconVerifier) -> Result<Newest, FileError> {
    read(path, verifier, Err)
}

/// As [`newest`], of those lines alone that are what was signed. What is wrong with the first of the others, if there are any.
///
/// # Errors
/// [`FileError::TooLarge`], [`FileError::Io`].
pub fn newest_of_signed(
    path: &Path,
    verifier: &BeaconVerifier,
) -> Result<(Newest, Option<FileError>), FileError> {
    let mut wrong = None;
    let newest = read(path, verifier, |error| {
        wrong.get_or_insert(error);
        Ok(())
    })?;
    Ok((newest, wrong))
}

/// Each line of the file; `wrong` is told of one that is not what was signed, and says whether to go on behind it.
fn read(
    path: &Path,
    verifier: &BeaconVerifier,
    mut wrong: impl FnMut(FileError) -> Result<(), FileError>,
) -> Result<Newest, FileError> {
    let failed = |error| FileError::Io(path.to_owned(), error);
    let file = File::open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.len() > READ_MAX_BYTES {
        return Err(FileError::TooLarge(path.to_owned()));
    }
    let mut lines = BufReader::new(file);
    let (mut newest, mut text, mut line) = (Newest::default(), Vec::new(), 0);
    loop {
        text.clear();
        line += 1;
        let most = LINE_MAX_BYTES as u64 + 1;
        lines.by_ref().take(most).read_until(b'\n', &mut text).map_err(failed)?;
        let not_signed = |why: String| FileError::Line { file: path.to_owned(), line, why };
        if text.pop_if(|byte| *byte == b'\n').is_none() {
            // What has no end is not known to be a line.
            if text.len() <= LINE_MAX_BYTES {
                return Ok(newest);
            }
            // Behind one that is too long others may stand: it is not the end.
            wrong(not_signed(format!("is longer than {LINE_MAX_BYTES} bytes")))?;
            lines.skip_until(b'\n').map_err(failed)?;
            continue;
        }
        match attested(&text, verifier) {
            // That a chain became shorter is told by whoever verifies; here its longest counts.
            Ok(attestation) => {
                newest.see(attestation);
            }
            Err(why) => wrong(not_signed(why))?,
        }
    }
}

/// What one line says, if somebody who is known has signed it.
fn attested(text: &[u8], verifier: &BeaconVerifier) -> Result<Attestation, String> {
    let signed: SignedCheckpoint = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    verifier.verify_checkpoint(&signed).map_err(|error| error.to_string())?;
    serde_json::from_str(&signed.body).map_err(|error| error.to_string())
}

/// The file, locked, and how it ends.
#[derive(Debug)]
pub struct Open {
    path: PathBuf,
    file: File,
    /// Its last whole line.
    last: Option<SignedCheckpoint>,
    /// What stands behind it.
    torn: Vec<u8>,
}

impl Open {
    /// Open it, make it if it is missing, and read how it ends. Blocks for as long as the disk takes.
    ///
    /// # Errors
    /// Any but [`FileError::Torn`].
    pub fn at(path: &Path) -> Result<Self, FileError> {
        let failed = |error| FileError::Io(path.to_owned(), error);
        let new = !path.try_exists().map_err(failed)?;
        let mut file = File::options().create(true).read(true).append(true).open(path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(FileError::Locked(path.to_owned())),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        if new {
            // The name, too, has to be on disk.
            let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
        }
        let form = |why: String| FileError::Form { file: path.to_owned(), why };
        let (last, torn) = ending(&mut file).map_err(failed)?;
        if torn.len() > LINE_MAX_BYTES || last.as_ref().is_some_and(|line| line.len() > LINE_MAX_BYTES) {
            return Err(form(format!("longer than {LINE_MAX_BYTES} bytes")));
        }
        let last = last.map(|line| serde_json::from_slice(&line).map_err(|error| form(error.to_string())));
        Ok(Self { path: path.to_owned(), file, last: last.transpose()?, torn })
    }

    /// Its last whole line.
    pub fn last(&self) -> Option<&SignedCheckpoint> {
        self.last.as_ref()
    }

    /// Whether its last line has no end.
    pub fn is_torn(&self) -> bool {
        !self.torn.is_empty()
    }

    /// Append these, durably; a line without end is completed first. Blocks for as long as the disk takes.
    ///
    /// # Errors
    /// [`FileError::Torn`] if the first of these is not what has no end; then nothing is written. [`FileError::Io`].
    pub fn append(&mut self, signed: &[SignedCheckpoint]) -> Result<(), FileError> {
        let failed = |error| FileError::Io(self.path.clone(), error);
        let mut text = Vec::new();
        for one in signed {
            serde_json::to_writer(&mut text, one).map_err(|error| failed(error.into()))?;
            text.push(b'\n');
        }
        let rest = text.strip_prefix(self.torn.as_slice()).ok_or(FileError::Torn(self.path.clone()))?;
        self.file.write_all(rest).map_err(failed)?;
        self.file.sync_all().map_err(failed)?;
        self.torn.clear();
        if let Some(last) = signed.last() {
            self.last = Some(last.clone());
        }
        Ok(())
    }
}

/// The last line that has an end, and what stands behind it.
fn ending(file: &mut File) -> io::Result<(Option<Vec<u8>>, Vec<u8>)> {
    // Two lines with their ends, and a byte that shows that they are too long.
    let most = 2 * (LINE_MAX_BYTES as u64 + 1) + 1;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(most)))?;
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    let Some(end) = text.iter().rposition(|byte| *byte == b'\n') else { return Ok((None, text)) };
    let torn = text.split_off(end + 1);
    text.pop();
    let begin = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    Ok((Some(text.split_off(begin)), torn))
}

#[cfg(test)]
mod tests {
    use sexton_model::Timestamp;
    use sexton_model::attest::{Head, Sequence};
    use sexton_protocol::BeaconSigner;
    use sexton_testkit::fuzz::{Form, Fuzz};

    use super::*;

    fn signed(body: &str) -> SignedCheckpoint {
        SignedCheckpoint { body: body.to_owned(), key_id: "k".into(), signature: "s".into() }
    }

    fn line(body: &str) -> String {
        written(&signed(body))
    }

    fn written(signed: &SignedCheckpoint) -> String {
        format!("{}\n", serde_json::to_string(signed).unwrap())
    }

    /// Three about one ledger, all heads in them, and by what they are verified: always the same ones.
    fn three() -> (Vec<SignedCheckpoint>, Vec<Head>, BeaconVerifier) {
        let secret = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
        let keys = format!("[[keys]]\nid = \"k\"\nsecret = \"{secret}\"\n");
        let signer = BeaconSigner::parse("k", &keys).unwrap();
        let (mut sequence, mut three, mut heads) = (Sequence::default(), Vec::new(), Vec::new());
        for n in 1..=3 {
            let grown = vec![
                Head { chain: "pauses".to_owned(), seq: n, hash: [7; 32] },
                Head { chain: format!("d-{n}"), seq: 1, hash: [8; 32] },
            ];
            let next = sequence.next("here".to_owned(), 1, Timestamp(n), grown.clone());
            let signed = signer.sign_checkpoint(&next).unwrap();
            sequence.see(&signed.body).unwrap();
            three.push(signed);
            heads.extend(grown);
        }
        (three, heads, signer.verifier())
    }

    /// Whatever the file holds, what counts of it is what was signed; a line that was not is named.
    #[test]
    fn fuzz_what_counts() {
        let (three, heads, verifier) = three();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoints");
        let whole: String = three.iter().map(written).collect();
        Fuzz::new("kept-checkpoints", Form::JsonLines).seed(whole).slow(8).run(|bytes| {
            std::fs::write(&path, bytes).unwrap();
            let found = newest(&path, &verifier).map_err(|error| {
                assert!(matches!(error, FileError::Line { .. }), "{error:?}");
                error.to_string()
            })?;
            assert!(found.highest_record() <= 3, "{found:?}");
            for head in found.into_heads() {
                assert!(heads.contains(&head), "{head:?} was never signed");
            }
            Ok(())
        });
    }

    /// It hides nothing that stands behind it.
    #[test]
    fn a_line_that_is_too_long_is_named() {
        let (three, _, verifier) = three();
        let lines: Vec<String> = three.iter().map(written).collect();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoints");
        let long = "x".repeat(LINE_MAX_BYTES + 1);
        for (text, line, highest) in [
            (format!("{}{}{long}\n{}", lines[0], lines[1], lines[2]), 3, 3),
            (format!("{}{long}{long}\n{}{}", lines[0], lines[1], lines[2]), 2, 3),
            (format!("{}{long}", lines[0]), 2, 1),
        ] {
            std::fs::write(&path, text).unwrap();
            let why = newest(&path, &verifier).unwrap_err().to_string();
            let expected = format!("{}: line {line}: is longer than {LINE_MAX_BYTES} bytes", path.display());
            assert_eq!(why, expected);
            let (found, wrong) = newest_of_signed(&path, &verifier).unwrap();
            assert_eq!(wrong.unwrap().to_string(), expected);
            assert_eq!(found.highest_record(), highest, "what is signed counts, wherever it stands");
        }
        // What has no end may become a line.
        std::fs::write(&path, format!("{}{}", lines.concat(), &long[1..])).unwrap();
        assert_eq!(newest(&path, &verifier).unwrap().len(), 4, "the pauses' chain, and one of each record");
    }

    /// Whatever the file ends with stays, byte for byte: a line without end becomes the one that it is the beginning of, or
    /// nothing is written.
    #[test]
    fn fuzz_endings() {
        let (three, ..) = three();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoints");
        let whole: String = three.iter().map(written).collect();
        let torn = whole[..whole.len() - 40].to_owned();
        let next = &three[2];
        Fuzz::new("checkpoint-endings", Form::JsonLines).seed(whole).seed(torn).slow(4).run(|bytes| {
            std::fs::write(&path, bytes).unwrap();
            let mut open = Open::at(&path).map_err(|error| {
                assert!(matches!(error, FileError::Form { .. }), "{error:?}");
                error.to_string()
            })?;
            let lines = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
            assert_eq!((open.last().is_some(), open.is_torn()), (lines > 0, lines < bytes.len()));
            if !open.is_torn() {
                return Ok(());
            }
            let appended = open.append(std::slice::from_ref(next));
            drop(open);
            let after = std::fs::read(&path).unwrap();
            if let Err(error) = appended {
                assert!(after == bytes, "it was written to: {error}");
                return Err(error.to_string());
            }
            assert!(after.starts_with(bytes), "what stood there is another");
            assert!(after[lines..] == *written(next).as_bytes(), "it was completed to something else");
            assert_eq!(Open::at(&path).unwrap().last(), Some(next));
            Ok(())
        });
    }

    #[test]
    fn lines_are_appended_and_the_last_one_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoints");
        let mut open = Open::at(&path).unwrap();
        assert_eq!((open.last(), open.is_torn()), (None, false));
        open.append(&[signed("one"), signed("two")]).unwrap();
        assert!(matches!(Open::at(&path), Err(FileError::Locked(_))));
        drop(open);
        let mut open = Open::at(&path).unwrap();
        assert_eq!(open.last(), Some(&signed("two")));
        let long = "x".repeat(LINE_MAX_BYTES - 100);
        open.append(&[signed(&long), signed(&long)]).unwrap();
        drop(open);
        assert_eq!(Open::at(&path).unwrap().last(), Some(&signed(&long)));
        let expected = [line("one"), line("two"), line(&long), line(&long)].concat();
        assert!(std::fs::read_to_string(&path).unwrap() == expected);
    }

    /// Wherever a loss of power has cut it.
    #[test]
    fn a_torn_line_is_completed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoints");
        let whole = line("one") + &line("two") + &line("three");
        for length in 0..=whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            let mut open = Open::at(&path).unwrap();
            let there = whole[..length].matches('\n').count();
            assert_eq!(open.is_torn(), length > 0 && !whole[..length].ends_with('\n'));
            let all = [signed("one"), signed("two"), signed("three")];
            assert_eq!(open.last(), all[..there].last());
            open.append(&all[there..]).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), whole, "{length}");
        }
    }

    #[test]
    fn what_is_no_beginning_of_it_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoints");
        for torn in ["{\"body\":\"twx", "\0\0", &line("two").replace('\n', " ")] {
            let text = line("one") + torn;
            std::fs::write(&path, &text).unwrap();
            let mut open = Open::at(&path).unwrap();
            assert!(matches!(open.append(&[signed("two")]), Err(FileError::Torn(_))), "{torn}");
            assert!(matches!(open.append(&[]), Err(FileError::Torn(_))), "{torn}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
        for text in ["x\n", "{\"body\":1}\n", "\n", &"x".repeat(LINE_MAX_BYTES * 3)] {
            std::fs::write(&path, text).unwrap();
            assert!(matches!(Open::at(&path), Err(FileError::Form { .. })));
        }
    }
}

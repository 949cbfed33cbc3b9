//! Changes of bytes, whatever they mean.
use super::dice::Dice;

/// What readers of JSON, TOML, CSV, iCalendar, DNS and QMP look for, and what is hard on numbers, dates and texts.
const TOKENS: &[&[u8]] = &[
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b"'",
    b",",
    b":",
    b";",
    b"=",
    b"\n",
    b"\r\n",
    b"\t",
    b" ",
    b"\0",
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b"null",
    b"true",
    b"false",
    b"0",
    b"-1",
    b"-0",
    b"1e999",
    b"-1e-999",
    b"0.1",
    b"255",
    b"256",
    b"65535",
    b"65536",
    b"2147483647",
    b"2147483648",
    b"-2147483649",
    b"4294967296",
    b"9223372036854775807",
    b"9223372036854775808",
    b"-9223372036854775808",
    b"18446744073709551615",
    b"18446744073709551616",
    b"1e308",
    b"0x7fffffffffffffff",
    b"nan",
    b"-inf",
    b"[[",
    b"]]",
    b"\"\"\"",
    b"'''",
    b"#",
    b"..",
    b"/",
    b"//",
    b"%2e",
    b"{{",
    b"d-1",
    b"d-9223372036854775807",
    b"vm/web01",
    b"dns.main",
    b"2026-12-01",
    b"9999-12-31T23:59:59-23:59",
    b"0000-01-01T00:00:00+23:59",
    b"+262142 12 31",
    b"1979-05-27T07:32:00Z",
    b"BEGIN:VEVENT",
    b"END:VEVENT",
    b"FREQ=SECONDLY",
    b"INTERVAL=0",
    b"COUNT=4294967295",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\xf0\x9f\x92\xa3",
    b"\xc3\x28",
];

/// Something that is no example of anything.
pub(super) fn noise(dice: &mut Dice) -> Vec<u8> {
    let mut bytes = Vec::new();
    let pieces = 1usize << dice.below(9);
    for _ in 0..dice.below(pieces + 1) {
        if dice.one_in(2) {
            bytes.extend_from_slice(token(dice));
        } else {
            bytes.push(byte(dice));
        }
    }
    bytes
}

fn token(dice: &mut Dice) -> &'static [u8] {
    dice.pick(TOKENS).copied().unwrap_or_default()
}

fn byte(dice: &mut Dice) -> u8 {
    dice.roll().to_le_bytes()[0]
}

/// One change; some of it may come from `other`.
pub(super) fn change(dice: &mut Dice, bytes: &mut Vec<u8>, other: &[u8]) {
    let range = dice.range(bytes.len());
    let at = range.start;
    match dice.below(13) {
        0 => {
            let bit = 1u8 << dice.below(8);
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= bit;
            }
        }
        1 => {
            let new = byte(dice);
            if let Some(byte) = bytes.get_mut(at) {
                *byte = new;
            }
        }
        2 => drop(bytes.splice(at..at, token(dice).iter().copied())),
        3 => drop(bytes.splice(range, token(dice).iter().copied())),
        4 => drop(bytes.drain(range)),
        5 => bytes.truncate(at),
        6 => {
            let piece = bytes[range].to_vec();
            drop(bytes.splice(at..at, piece));
        }
        // A short piece very often: nesting, endless lists, long texts.
        7 => {
            let piece = if dice.one_in(2) { token(dice).to_vec() } else { bytes[range].to_vec() };
            let times = 1usize << dice.below(13);
            drop(bytes.splice(at..at, piece.repeat(times.min((16 << 10) / piece.len().max(1)))));
        }
        8 => {
            let theirs = dice.range(other.len());
            drop(bytes.splice(range, other[theirs].iter().copied()));
        }
        9 => {
            let new: Vec<u8> = (0..dice.below(16)).map(|_| byte(dice)).collect();
            drop(bytes.splice(at..at, new));
        }
        10 => number(dice, bytes, at),
        11 => line(dice, bytes, at),
        _ => {
            let count = dice.below(4096);
            let filling = *dice.pick(b"aA0[ \n\xc3").unwrap_or(&b'a');
            drop(bytes.splice(at..at, std::iter::repeat_n(filling, count)));
        }
    }
}

/// Another number in the place of the first one behind `at`.
fn number(dice: &mut Dice, bytes: &mut Vec<u8>, at: usize) {
    let Some(begin) = bytes.iter().skip(at).position(u8::is_ascii_digit).map(|found| at + found) else {
        return;
    };
    let length = bytes.iter().skip(begin).take_while(|byte| byte.is_ascii_digit()).count();
    let new = match dice.below(3) {
        0 => token(dice).to_vec(),
        1 => dice.roll().to_string().into_bytes(),
        _ => vec![b'9'; dice.below(400)],
    };
    drop(bytes.splice(begin..begin + length, new));
}

/// The line around `at` once more, twice, elsewhere, or not at all.
fn line(dice: &mut Dice, bytes: &mut Vec<u8>, at: usize) {
    let begin = bytes[..at].iter().rposition(|byte| *byte == b'\n').map_or(0, |found| found + 1);
    let end =
        bytes.iter().skip(at).position(|byte| *byte == b'\n').map_or(bytes.len(), |found| at + found + 1);
    let line: Vec<u8> =
        if dice.one_in(2) { bytes.drain(begin..end).collect() } else { bytes[begin..end].to_vec() };
    let starts: Vec<usize> = std::iter::once(0)
        .chain(bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1))
        .collect();
    for _ in 0..dice.below(3) {
        let to = dice.pick(&starts).copied().unwrap_or(0).min(bytes.len());
        drop(bytes.splice(to..to, line.iter().copied()));
    }
}

//! Dates as people write them: `2026-12-01`, and nothing else.
use chrono::NaiveDate;
use serde::{Deserialize, Deserializer};

/// A date, in the one form that cannot be misread.
///
/// # Errors
/// Saying what was expected.
pub fn parse(text: &str) -> Result<NaiveDate, String> {
    // The parser alone would take `2026-1-1` and blanks, too.
    let digits = |range: std::ops::Range<usize>| text.as_bytes()[range].iter().all(u8::is_ascii_digit);
    let formed = text.len() == 10 && digits(0..4) && digits(5..7) && digits(8..10);
    let short = || text.chars().take(40).collect::<String>();
    if !formed {
        return Err(format!("{:?}: expected a date as YYYY-MM-DD, such as 2026-12-01", short()));
    }
    text.parse().map_err(|_| format!("{:?}: there is no such date; expected one as YYYY-MM-DD", short()))
}

/// The same, where a field has to be one.
///
/// # Errors
/// Saying what was expected.
pub fn required<'de, D: Deserializer<'de>>(from: D) -> Result<NaiveDate, D::Error> {
    parse(&String::deserialize(from)?).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn only_the_one_form_is_taken() {
        assert_eq!(parse("2028-02-29").unwrap().to_string(), "2028-02-29");
        for bad in ["2026-02-30", "2027-02-29", "2026-13-01", "0000-00-00"] {
            assert!(parse(bad).unwrap_err().contains("no such date"), "{bad}");
        }
        for bad in [
            "",
            "tomorrow",
            "2026-1-1",
            "01.12.2026",
            "12/01/2026",
            "2026-12-01T00:00:00Z",
            "٢٠٢٦-٠١-٠١",
            "2026x12x01 ",
        ] {
            assert!(parse(bad).unwrap_err().contains("YYYY-MM-DD"), "{bad}");
        }
    }
}

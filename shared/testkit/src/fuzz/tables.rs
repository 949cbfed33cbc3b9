//! Changes of TOML that leave it TOML, as those of `json`: what parses gets to what its words mean.
use serde_json::Value;

use super::dice::Dice;
use super::json;

/// The same with one change, written anew; none if it is no TOML, or what became of it is none (a null).
pub(super) fn changed(dice: &mut Dice, bytes: &[u8]) -> Option<Vec<u8>> {
    let mut value: Value = toml::from_str(std::str::from_utf8(bytes).ok()?).ok()?;
    json::change(dice, &mut value);
    toml::to_string(&value).ok().map(String::into_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_changed_is_another_file_of_tables_and_what_is_none_is_left() {
        let file = b"name = \"a\"\n\n[[keys]]\nid = \"k\"\nnumber = 1\n";
        let made = |number| changed(&mut Dice::of(1, number), file);
        let written: Vec<Vec<u8>> = (0..100).filter_map(made).collect();
        assert!(written.len() > 50, "{}", written.len());
        assert!(written.iter().any(|made| made.windows(8).any(|part| part == b"[[keys]]") && made != file));
        assert_eq!(changed(&mut Dice::of(1, 1), b"name = "), None);
        assert_eq!(changed(&mut Dice::of(1, 1), b"\xff"), None);
    }
}

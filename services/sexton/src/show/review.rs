//! A job table that went back in time, as whoever reviews it reads of it.
use sexton_api::LostInfo;
use sexton_model::checkpoint::Review;

use crate::output::{counted, moment, table};

/// What a person who reviews should do.
pub const REVIEWING: &str = "
What was decided after that moment is lost: records may be missing, cancels, holds and pauses too, and steps may
have been carried out that it knows nothing of. The coordinators' files of signed checkpoints know more: keep them,
and see which chains have lost events, with
  sexton verify FILE --key beacon.public.toml
Compare all of it with what the platform says. Records can be cancelled and held meanwhile.
Tokens that were revoked since may be valid again: until it is accepted, whoever shows one may look, cancel, hold,
pause, park, and say that a notice came back, and nothing else. List them, and revoke what should be gone, with the configured token (token_file):
  sexton token list
  sexton token revoke NAME
Then, with the configured token, too:
  sexton review --accept --reason …
";

/// Most chains that are shown as lines; `-o json` shows more.
const LOST_LINES: usize = 40;

/// What was signed, and a job table that went back in time has lost.
pub fn lost(info: &LostInfo) -> String {
    if let Some(why) = &info.not_compared {
        return format!("\nNOT COMPARED with what was signed: {why}\n");
    }
    if info.total == 0 {
        return "\nno chain has lost anything that this coordinator's signed checkpoints know of; what came after the \
                last of them they do not know\n"
            .to_owned();
    }
    let mut text = format!("\n{} lost what was signed of them:\n", counted(info.total, "chain"));
    for lost in info.chains.iter().take(LOST_LINES) {
        text += &format!("  {lost}\n");
    }
    let more = info.total.saturating_sub(info.chains.len().min(LOST_LINES) as u64);
    if more > 0 {
        text += &format!("  and {more} more\n");
    }
    text
}

/// A job table that went back in time.
pub fn review(open: &Review) -> String {
    let (known, found) = (&open.behind.known, &open.behind.found);
    let mut text = format!(
        "UNDER REVIEW since {}: the job table went back in time. Nothing is dispatched, restores neither.\n\n",
        moment(Some(open.since))
    );
    text += &table(
        ["", "epoch", "checkpoint", "written (UTC)", "fence", "pause revision"],
        [("it was seen at", known), ("it stands at", found)].map(|(what, mark)| {
            [
                what.to_owned(),
                mark.epoch.to_string(),
                mark.number.to_string(),
                moment(Some(mark.at)),
                mark.fence.to_string(),
                mark.revision.to_string(),
            ]
        }),
    );
    text += &format!("\n{} s are lost at least\n", known.at.ms_since(found.at) / 1000);
    for lost in &open.behind.missing {
        text += &format!("a decision that was seen is missing: {lost}\n");
    }
    if let Some(lost) = &open.behind.decision {
        text += &format!(
            "a decision that is no record's was seen and is missing: event {} of {}\n",
            lost.seq, lost.chain
        );
    }
    text
}

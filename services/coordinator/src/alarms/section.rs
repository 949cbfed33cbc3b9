//! The section `[alarms]` of the configuration.
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chrono::NaiveTime;
use lettre::message::Mailbox;
use serde::Deserialize;
use sexton_model::alarm::Rules;
use sexton_model::deletion::Zone;
use sexton_model::digest::Daily;
use sexton_service::{Config, secret};

use super::command::Command;
use super::mail::{self, Mail};
use super::route::{Route, TIMEOUT_MAX_MS, TIMEOUT_MS};
use super::webhook::{self, Webhook};
use super::{EVERY, Options};

/// Longest time until a credential is overdue, in days: a year.
const CREDENTIAL_DAYS_MAX: u16 = 366;
/// Longest that may be configured for a notice, in hours: then the announcement is parked.
const UNTOLD_HOURS_MAX: u16 = 72;
/// Shortest and longest time between two looks for alarms, in milliseconds: each look reads every record that may alarm, and
/// who is called an hour late was not called.
const LOOK_EVERY_MIN_MS: u64 = 100;
const LOOK_EVERY_MAX_MS: u64 = 3_600_000;
/// Most arguments of a command, and longest of them in bytes: what any system takes.
const ARGUMENTS_MAX: usize = 64;
const ARGUMENT_MAX_BYTES: usize = 4096;

/// See the module. Everything may be left out.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlarmsSection {
    /// When the digest is made: hours and minutes, such as `08:00`.
    #[serde(default)]
    digest_at: Option<String>,
    /// In which zone; UTC if not given.
    #[serde(default)]
    zone: Option<Zone>,
    #[serde(default)]
    credential_days: Option<u16>,
    /// For how many policy hours a notice may not be delivered before that alarms.
    #[serde(default)]
    untold_hours: Option<u16>,
    /// How often somebody looks for alarms, of all coordinators, in milliseconds.
    #[serde(default)]
    look_every_ms: Option<u64>,
    #[serde(default)]
    webhook: Option<WebhookPart>,
    #[serde(default)]
    command: Option<CommandPart>,
    #[serde(default)]
    mail: Option<MailPart>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WebhookPart {
    url: String,
    #[serde(default)]
    token_file: Option<PathBuf>,
    #[serde(default)]
    timeout_ms: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CommandPart {
    /// A bare name is looked up in the search path, anything else is a file.
    program: PathBuf,
    #[serde(default)]
    arguments: Vec<String>,
    #[serde(default)]
    timeout_ms: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct MailPart {
    url: String,
    #[serde(default)]
    user: Option<String>,
    #[serde(default)]
    password_file: Option<PathBuf>,
    from: String,
    to: Vec<String>,
    #[serde(default)]
    timeout_ms: Option<u64>,
}

fn timeout(part: &str, ms: Option<u64>) -> Result<Duration, String> {
    let ms = ms.unwrap_or(TIMEOUT_MS);
    if !(1..=TIMEOUT_MAX_MS).contains(&ms) {
        return Err(format!("{part}.timeout_ms = {ms}: expected 1 to {TIMEOUT_MAX_MS}"));
    }
    Ok(Duration::from_millis(ms))
}

impl WebhookPart {
    fn route(self, config: &Config) -> Result<Arc<dyn Route>, String> {
        let url = webhook::address(&self.url).map_err(|why| format!("webhook.url: {why}"))?;
        let token_file = self.token_file.map(|file| config.path(&file));
        if let Some(file) = &token_file {
            // Read anew whenever it is needed; one that cannot be read is to be found now.
            secret::read(file).map_err(|why| format!("webhook.token_file: {why:#}"))?;
        }
        let timeout = timeout("webhook", self.timeout_ms)?;
        let webhook = Webhook::new(url, token_file, timeout).map_err(|why| format!("webhook: {why:#}"))?;
        Ok(Arc::new(webhook))
    }
}

impl CommandPart {
    fn route(self, config: &Config) -> Result<Arc<dyn Route>, String> {
        let (most, longest) = (ARGUMENTS_MAX, ARGUMENT_MAX_BYTES);
        if self.arguments.len() > most || self.arguments.iter().any(|argument| argument.len() > longest) {
            return Err(format!("command.arguments: expected at most {most} of at most {longest} bytes"));
        }
        let file = self.program.components().count() > 1;
        let program = if file { config.path(&self.program) } else { self.program };
        if file && !program.is_file() {
            return Err(format!("command.program = {}: expected a program that exists", program.display()));
        }
        Ok(Arc::new(Command::new(program, self.arguments, timeout("command", self.timeout_ms)?)))
    }
}

impl MailPart {
    fn route(self, config: &Config) -> Result<Arc<dyn Route>, String> {
        let url = mail::server(&self.url).map_err(|why| format!("mail.url: {why}"))?;
        let mailbox = |key: &str, text: &str| {
            text.parse::<Mailbox>().map_err(|why| format!("mail.{key} = {text:?}: {why}"))
        };
        let from = mailbox("from", &self.from)?;
        if self.to.is_empty() || self.to.len() > mail::TO_MAX {
            return Err(format!("mail.to: expected 1 to {} addresses", mail::TO_MAX));
        }
        let to = self.to.iter().map(|text| mailbox("to", text)).collect::<Result<_, _>>()?;
        let password = |file: &Path| {
            secret::read(&config.path(file)).map_err(|why| format!("mail.password_file: {why:#}"))
        };
        let login = match (self.user, self.password_file) {
            (Some(user), Some(file)) => Some((user, password(&file)?)),
            (None, None) => None,
            _ => return Err("mail.user and mail.password_file: set both or neither".to_owned()),
        };
        let timeout = timeout("mail", self.timeout_ms)?;
        let mail = Mail::new(&url, login, (from, to), timeout).map_err(|why| format!("mail: {why:#}"))?;
        Ok(Arc::new(mail))
    }
}

impl AlarmsSection {
    /// What this process tells, and how. `witness`: where its witness lies, which no other process has.
    ///
    /// # Errors
    /// Naming the key that is wrong.
    pub fn options(self, config: &Config, witness: &Path) -> anyhow::Result<Options> {
        let mistake = |why: String| config.mistake("alarms", why);
        let defaults = Options::default();
        let at = match &self.digest_at {
            Some(text) => NaiveTime::parse_from_str(text, "%H:%M").map_err(|_| {
                mistake(format!("digest_at = {text:?}: expected hours and minutes, such as 08:00"))
            })?,
            None => defaults.daily.at,
        };
        let zone = self.zone.map_or(defaults.daily.zone, |zone| zone.0);
        let credential_days = self.credential_days.unwrap_or(defaults.rules.credential_days);
        if credential_days > CREDENTIAL_DAYS_MAX {
            let why = format!("credential_days = {credential_days}: expected 0 to {CREDENTIAL_DAYS_MAX}");
            return Err(mistake(why).into());
        }
        let untold_hours = self.untold_hours.unwrap_or(defaults.rules.untold_hours);
        if untold_hours > UNTOLD_HOURS_MAX {
            let why = format!("untold_hours = {untold_hours}: expected 0 to {UNTOLD_HOURS_MAX}");
            return Err(mistake(why).into());
        }
        let round_ms = self.look_every_ms.unwrap_or(defaults.round_ms);
        if !(LOOK_EVERY_MIN_MS..=LOOK_EVERY_MAX_MS).contains(&round_ms) {
            let why = format!(
                "look_every_ms = {round_ms}: expected {LOOK_EVERY_MIN_MS} to {LOOK_EVERY_MAX_MS} milliseconds"
            );
            return Err(mistake(why).into());
        }
        let webhook = self.webhook.map(|part| part.route(config));
        let command = self.command.map(|part| part.route(config));
        let mail = self.mail.map(|part| part.route(config));
        let routes = [webhook, command, mail].into_iter().flatten();
        Ok(Options {
            routes: routes.collect::<Result<_, _>>().map_err(mistake)?,
            daily: Daily { at, zone },
            rules: Rules { credential_days, untold_hours, ..defaults.rules },
            name: name(witness),
            every: EVERY.min(Duration::from_millis(round_ms)),
            round_ms,
            ..defaults
        })
    }
}

/// Longest name of a process, in characters.
const NAME_MAX: usize = 200;

/// What this process is called: its machine, and the witness that it has there alone.
fn name(witness: &Path) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim();
    let name = format!("{host}:{}", witness.display());
    // The end of a long path tells more than its begin.
    let too_many = name.chars().count().saturating_sub(NAME_MAX);
    name.chars().skip(too_many).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Options, String> {
        let folder = tempfile::tempdir().unwrap();
        let config = Config::parse(&folder.path().join("sexton.toml"), text, &["alarms"]).unwrap();
        let section: AlarmsSection = config.section("alarms").map_err(|e| e.to_string())?;
        section.options(&config, Path::new("a/w.witness")).map_err(|e| e.to_string())
    }

    const WEBHOOK: &str = "[alarms.webhook]\nurl = \"http://127.0.0.1:9/x\"\n";
    const MAIL: &str =
        "[alarms.mail]\nurl = \"smtp://127.0.0.1:25\"\nfrom = \"a@example.org\"\nto = [\"b@example.org\"]\n";

    #[tokio::test]
    async fn two_routes_of_different_kinds_are_enough() {
        let lacks = |text: &str| super::super::Alarmer::new(read(text).unwrap()).lacks();
        assert!(lacks("").unwrap().contains("told nobody"));
        assert!(lacks(WEBHOOK).unwrap().contains("no second route beside webhook"));
        assert_eq!(lacks(&format!("{WEBHOOK}[alarms.command]\nprogram = \"true\"\n")), None);
        assert_eq!(lacks(&format!("{WEBHOOK}{MAIL}")), None);
    }

    #[tokio::test]
    async fn the_digest_is_made_at_eight_unless_configured() {
        let at = |text: &str| read(text).map(|options| (options.daily.at.to_string(), options.daily.zone));
        assert_eq!(at(""), Ok(("08:00:00".to_owned(), chrono_tz::UTC)));
        let text = "[alarms]\ndigest_at = \"06:30\"\nzone = \"Europe/Berlin\"\n";
        assert_eq!(at(text), Ok(("06:30:00".to_owned(), chrono_tz::Europe::Berlin)));
    }

    #[tokio::test]
    async fn a_notice_is_late_after_four_hours_unless_configured() {
        let hours = |text: &str| read(text).map(|options| options.rules.untold_hours);
        assert_eq!((hours(""), hours("[alarms]\nuntold_hours = 1")), (Ok(4), Ok(1)));
    }

    #[tokio::test]
    async fn somebody_looks_as_often_as_configured() {
        let looks = |text: &str| read(text).map(|options| (options.every.as_millis(), options.round_ms));
        assert_eq!(looks(""), Ok((5_000, 30_000)));
        assert_eq!(looks("[alarms]\nlook_every_ms = 60000"), Ok((5_000, 60_000)), "it tells all the same");
        assert_eq!(looks("[alarms]\nlook_every_ms = 200"), Ok((200, 200)));
    }

    #[tokio::test]
    async fn a_mistake_names_the_key() {
        for (text, part) in [
            ("[alarms]\ndigest_at = \"8\"", "[alarms]: digest_at = \"8\": expected hours and minutes"),
            ("[alarms]\ndigest_at = \"24:00\"", "digest_at"),
            ("[alarms]\nzone = \"Mars\"", "zone"),
            ("[alarms]\ncredential_days = 400", "credential_days = 400: expected 0 to 366"),
            ("[alarms]\nuntold_hours = 73", "untold_hours = 73: expected 0 to 72"),
            ("[alarms]\nlook_every_ms = 99", "look_every_ms = 99: expected 100 to 3600000 milliseconds"),
            ("[alarms]\nfax = 1", "fax"),
            ("[alarms.webhook]\nurl = \"http://page.example.org/\"", "webhook.url: expected https"),
            ("[alarms.webhook]\nurl = \"http://127.0.0.1/\"\ntoken_file = \"gone\"", "webhook.token_file"),
            ("[alarms.webhook]\nurl = \"http://127.0.0.1/\"\ntimeout_ms = 0", "webhook.timeout_ms = 0"),
            ("[alarms.command]\nprogram = \"./gone\"", "command.program"),
            ("[alarms.command]\narguments = []", "program"),
            (
                &MAIL.replace("smtp://127.0.0.1:25", "smtp://mail.example.org"),
                "mail.url: mail to another host",
            ),
            (&MAIL.replace("b@example.org", "b"), "mail.to = \"b\""),
            (&MAIL.replace("[\"b@example.org\"]", "[]"), "mail.to: expected 1 to"),
            (&format!("{MAIL}user = \"me\""), "mail.user and mail.password_file"),
        ] {
            let error = read(text).err().unwrap_or_else(|| panic!("{text}"));
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}

//! `stop`: nothing may start the machine, then it is stopped. Its undo brings back exactly what was.
//!
//! The flags go first on the way down and last on the way up, so that no other agent starts the machine
//! meanwhile. Per attribute both directions accept what was captured or what was intended; anything else was
//! changed by others, and a person has to look.
use serde_json::{Value, json};
use sexton_consumer::driver::{Done, Obstacle};
use sexton_model::step::Presence;

use super::{Sight, ours, sight, told};
use crate::ask::Ask;
use crate::machine::{Domain, Flags, Host, Manifest, MayChange, Patience, Power, Running};

const NOTHING_STARTS_IT: Flags = Flags { autostart: false, onboot: false, ha: false };

/// What an undo needs to know.
pub(crate) async fn capture(host: &dyn Host, ask: &Ask) -> Result<Value, Obstacle> {
    let domain = ours(host, ask).await?;
    let running = own(&domain, host.running(&ask.name, ask.uuid).await?)?;
    Ok(json!(Manifest {
        power: power(running),
        flags: domain.flags,
        settings: domain.settings,
        process: running.map(Running::process),
    }))
}

/// Stop it.
pub(crate) async fn perform(
    host: &dyn Host,
    ask: &Ask,
    manifest: Option<&Value>,
    may: MayChange<'_>,
    patience: Patience,
) -> Result<Done, Obstacle> {
    let manifest = parse(ask, manifest)?;
    let _lock = host.lock(&ask.name).await?;
    let domain = ours(host, ask).await?;
    let running = own(&domain, host.running(&ask.name, ask.uuid).await?)?;
    accept(&domain, running, &manifest)?;
    host.set_flags(&domain, NOTHING_STARTS_IT, may).await?;
    let how = match running {
        Some(running) => host.halt(&domain, running.process(), may, patience).await?,
        None => "was off".to_owned(),
    };
    // Somebody may have started another one between the look and the flags.
    match host.running(&ask.name, ask.uuid).await? {
        Some(running) => Err(Obstacle::Unclear(format!("{how}; yet {} {}", ask.name, told(running)))),
        None => Ok(Done::saw(format!("{} {}: {how}", ask.name, ask.uuid))),
    }
}

/// Bring it back.
pub(crate) async fn undo(
    host: &dyn Host,
    ask: &Ask,
    manifest: &Value,
    may: MayChange<'_>,
) -> Result<Done, Obstacle> {
    let manifest = parse(ask, Some(manifest))?;
    let _lock = host.lock(&ask.name).await?;
    let domain = ours(host, ask).await?;
    let running = own(&domain, host.running(&ask.name, ask.uuid).await?)?;
    accept(&domain, running, &manifest)?;
    // The fence first, so that a stop under an older one changes nothing any more.
    host.set_flags(&domain, domain.flags, may).await?;
    let how = match (manifest.power, running) {
        (Power::On, Some(running)) => told(running),
        (Power::On, None) => format!("started as {}", host.start(&domain, may, ask.ends).await?),
        (Power::Off, _) => "stays off, as it was".to_owned(),
    };
    host.set_flags(&domain, manifest.flags, may).await?;
    Ok(Done::saw(format!("{} {}: {how}", ask.name, ask.uuid)))
}

/// Whether the stop holds.
pub(crate) async fn presence(host: &dyn Host, ask: &Ask) -> Result<(Presence, String), Obstacle> {
    let running = host.running(&ask.name, ask.uuid).await?;
    let flags = match sight(host, ask).await? {
        Sight::Ours(domain) => domain.flags,
        Sight::Nothing(_) => NOTHING_STARTS_IT,
        Sight::Other(why) => return Err(Obstacle::Refuse(why)),
    };
    Ok(match running {
        Some(running) => (Presence::Absent, format!("{} {}", ask.name, told(running))),
        None if flags != NOTHING_STARTS_IT => (Presence::Absent, format!("{} is off with {flags}", ask.name)),
        None => (Presence::Present, format!("{} is off, and nothing starts it", ask.name)),
    })
}

/// Whether everything is as it was captured.
pub(crate) async fn restored(host: &dyn Host, ask: &Ask, manifest: &Value) -> Result<String, Obstacle> {
    let manifest = parse(ask, Some(manifest))?;
    let domain = ours(host, ask).await?;
    let running = own(&domain, host.running(&ask.name, ask.uuid).await?)?;
    accept(&domain, running, &manifest)?;
    if power(running) != manifest.power || domain.flags != manifest.flags {
        return Err(Obstacle::Refuse(format!(
            "{} is {} with {}, before it was {} with {}",
            ask.name,
            power(running),
            domain.flags,
            manifest.power,
            manifest.flags
        )));
    }
    Ok(format!("{} is {} with {}, as before", ask.name, manifest.power, manifest.flags))
}

fn parse(ask: &Ask, manifest: Option<&Value>) -> Result<Manifest, Obstacle> {
    let manifest = manifest.ok_or_else(|| Obstacle::Refuse(format!("{}: nothing was captured", ask.name)))?;
    serde_json::from_value(manifest.clone())
        .map_err(|e| Obstacle::Refuse(format!("{}: what was captured is not this action's: {e}", ask.name)))
}

fn power(running: Option<Running>) -> Power {
    if running.is_some() { Power::On } else { Power::Off }
}

/// Somebody else's process is never stopped: the undo could not bring it back as it was.
fn own(domain: &Domain, running: Option<Running>) -> Result<Option<Running>, Obstacle> {
    match running {
        Some(foreign @ Running::Foreign(_)) => {
            Err(Obstacle::Refuse(format!("{} {}", domain.name, told(foreign))))
        }
        own @ (Some(Running::Own(_) | Running::Changed(_)) | None) => Ok(own),
    }
}

fn accept(domain: &Domain, running: Option<Running>, before: &Manifest) -> Result<(), Obstacle> {
    let changed = |what: &str| {
        Err(Obstacle::Refuse(format!("{} was changed by others since it was captured: {what}", domain.name)))
    };
    if domain.settings != before.settings {
        return changed("its settings");
    }
    for (name, now, captured) in [
        ("autostart", domain.flags.autostart, before.flags.autostart),
        ("onboot", domain.flags.onboot, before.flags.onboot),
        ("ha", domain.flags.ha, before.flags.ha),
    ] {
        if now && !captured {
            return changed(&format!("{name} is on"));
        }
    }
    match running {
        Some(_) if before.power == Power::Off => changed("it runs"),
        Some(Running::Changed(process)) if before.process != Some(process) => {
            changed("it was started with other settings")
        }
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Process;

    const FIRST: Process = Process { pid: 10, started: 100 };
    const SECOND: Process = Process { pid: 11, started: 200 };

    fn domain(autostart: bool, settings: u32) -> Domain {
        Domain {
            name: "web01".into(),
            uuid: uuid::Uuid::nil(),
            flags: Flags { autostart, onboot: false, ha: false },
            volumes: Vec::new(),
            settings: json!(settings),
            protected: None,
        }
    }

    fn manifest(power: Power, autostart: bool) -> Manifest {
        let process = (power == Power::On).then_some(FIRST);
        Manifest { power, flags: Flags { autostart, ..NOTHING_STARTS_IT }, settings: json!(1), process }
    }

    #[test]
    fn what_was_captured_or_intended_is_accepted_and_nothing_else() {
        use Power::{Off, On};
        for (now, running, before, accepted) in [
            (domain(true, 1), Some(Running::Own(FIRST)), manifest(On, true), true),
            (domain(false, 1), Some(Running::Own(FIRST)), manifest(On, true), true),
            (domain(false, 1), None, manifest(On, true), true),
            (domain(false, 1), None, manifest(Off, false), true),
            (domain(true, 1), Some(Running::Changed(FIRST)), manifest(On, true), true),
            (domain(false, 1), Some(Running::Own(SECOND)), manifest(On, true), true),
            (domain(true, 1), None, manifest(On, false), false),
            (domain(false, 2), None, manifest(On, true), false),
            (domain(false, 1), Some(Running::Own(SECOND)), manifest(Off, false), false),
            (domain(false, 1), Some(Running::Changed(SECOND)), manifest(On, true), false),
        ] {
            assert_eq!(accept(&now, running, &before).is_ok(), accepted, "{now:?} {running:?} {before:?}");
        }
    }

    #[test]
    fn a_manifest_is_flat_and_round_trips() {
        let before = manifest(Power::On, true);
        let value = json!(before);
        assert_eq!(value["power"], "on");
        assert_eq!(value["autostart"], true);
        assert_eq!(serde_json::from_value::<Manifest>(value).unwrap(), before);
    }
}

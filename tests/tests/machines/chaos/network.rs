//! A network of its own for one consumer, which can be cut off from everybody.
use std::net::Ipv4Addr;
use std::process::Command;

/// The consumer that lives there: it reaches its subsystem by files.
pub const SERVICE: &str = "backup.main";

pub struct Network {
    name: String,
    /// The end of its cable on this side, and the address there.
    cable: String,
    pub here: Ipv4Addr,
}

impl Network {
    /// Make it.
    ///
    /// # Errors
    /// What this machine or this user cannot do.
    pub fn make() -> Result<Self, String> {
        let number = std::process::id() % 10_000;
        let [high, low] = [number / 100, number % 100].map(|n| u8::try_from(n).unwrap_or(0));
        let name = format!("sxc{number}");
        let (cable, inner) = (format!("{name}h"), format!("{name}n"));
        let (here, there) = (Ipv4Addr::new(10, 213, high, low), Ipv4Addr::new(10, 214, high, low));
        // Removes whatever was made if the rest cannot be.
        let this = Self { name, cable, here };
        let (name, cable) = (&this.name, &this.cable);
        for command in [
            format!("netns add {name}"),
            format!("link add {cable} type veth peer name {inner}"),
            format!("link set {inner} netns {name}"),
            format!("addr add {here} peer {there} dev {cable}"),
            format!("link set {cable} up"),
            format!("-n {name} addr add {there} peer {here} dev {inner}"),
            format!("-n {name} link set {inner} up"),
            format!("-n {name} link set lo up"),
        ] {
            ip(&command)?;
        }
        Ok(this)
    }

    /// Words before the command of a process that lives there.
    pub fn prefix(&self) -> String {
        format!("ip netns exec {}", self.name)
    }

    pub fn cut(&self) {
        ip(&format!("link set {} down", self.cable)).unwrap();
    }

    /// How often something was said anew in it until now, since nobody had heard it.
    pub fn unheard(&self) -> usize {
        let shown = ip(&format!("netns exec {} cat /proc/net/snmp", self.name)).unwrap();
        // Names, and then their values.
        let mut lines = shown.lines().filter_map(|line| line.strip_prefix("Tcp: "));
        let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
        let at = names.split(' ').position(|name| name == "RetransSegs").unwrap();
        values.split(' ').nth(at).unwrap().parse().unwrap()
    }

    pub fn mend(&self) {
        ip(&format!("link set {} up", self.cable)).unwrap();
    }
}

/// The processes in it keep what they have; nobody else finds it any more.
impl Drop for Network {
    fn drop(&mut self) {
        let _ = ip(&format!("link del {}", self.cable));
        let _ = ip(&format!("netns del {}", self.name));
    }
}

/// What it says.
fn ip(command: &str) -> Result<String, String> {
    let output = Command::new("ip").args(command.split(' ')).output();
    let output = output.map_err(|e| format!("ip {command}: {e}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("ip {command}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

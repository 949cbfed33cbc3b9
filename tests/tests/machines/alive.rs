//! What of a folder is alive: processes that have to do with it, and ports on which they listen. By `/proc`, so that a
//! process is found, too, of which no file says anything any more.
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The state of a socket that listens, in `/proc/net/tcp`.
const LISTENS: &str = "0A";

/// Processes by their numbers, but for this one, with their command lines: those whose command line names something in
/// `folder`, and those that run, stand in, or have open something in it, also if it was removed meanwhile. `folder` is
/// as the system calls it: absolute, without links.
pub fn processes(folder: &Path) -> BTreeMap<u32, String> {
    let named = format!("{}/", folder.display());
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // One that has ended meanwhile has neither words nor files.
        let words = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&words).replace('\0', " ");
        let here = line.contains(&named) || links(pid).iter().any(|link| is_in(folder, link));
        if here && pid != std::process::id() {
            found.insert(pid, line);
        }
    }
    found
}

/// Ports on which one of these processes listens, as far as it has no network of its own.
pub fn ports(of: impl IntoIterator<Item = u32>) -> BTreeSet<u16> {
    let open: BTreeSet<PathBuf> = of.into_iter().flat_map(links).collect();
    let listening = listening().into_iter();
    listening.filter(|(socket, _)| open.contains(Path::new(socket))).map(|(_, port)| port).collect()
}

/// Ports on which anybody listens, by the names of the sockets.
pub fn listening() -> BTreeMap<String, u16> {
    let mut found = BTreeMap::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        // Without IPv6 there is no second one.
        let table = std::fs::read_to_string(table).unwrap_or_default();
        for line in table.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [_, local, _, LISTENS, _, _, _, _, _, inode, ..] = words[..] else { continue };
            let port = local.rsplit_once(':').and_then(|(_, port)| u16::from_str_radix(port, 16).ok());
            found.insert(format!("socket:[{inode}]"), port.unwrap());
        }
    }
    found
}

/// What a process runs, stands in, and has open.
fn links(pid: u32) -> Vec<PathBuf> {
    let process = PathBuf::from(format!("/proc/{pid}"));
    let open = std::fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    let all = ["exe", "cwd"].map(|name| process.join(name)).into_iter().chain(open.map(|file| file.path()));
    all.filter_map(|link| std::fs::read_link(link).ok()).collect()
}

fn is_in(folder: &Path, link: &Path) -> bool {
    let name = link.to_string_lossy();
    // So the system marks what was removed.
    Path::new(name.strip_suffix(" (deleted)").unwrap_or(&name)).starts_with(folder)
}

#[test]
fn whoever_has_to_do_with_a_folder_is_found_though_it_is_gone() {
    use std::os::unix::process::CommandExt as _;
    use std::process::Command;

    let top = tempfile::tempdir().unwrap();
    let top = top.path().canonicalize().unwrap();
    let (folder, beside) = (top.join("dev"), top.join("dev2"));
    for made in [&folder, &beside] {
        std::fs::create_dir(made).unwrap();
    }
    let log = std::fs::File::create(folder.join("log")).unwrap();
    let sleep = || {
        let mut command = Command::new("sleep");
        command.arg("1000").current_dir("/");
        command
    };
    let mut children = [
        sleep().current_dir(&beside).spawn().unwrap(),
        sleep().current_dir(&folder).spawn().unwrap(),
        sleep().stdout(log).spawn().unwrap(),
        sleep().arg0(folder.join("machine")).spawn().unwrap(),
    ];
    std::fs::remove_dir_all(&folder).unwrap();
    let found = processes(&folder);
    for child in &mut children {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let wanted: BTreeSet<u32> = children[1..].iter().map(std::process::Child::id).collect();
    assert_eq!(found.keys().copied().collect::<BTreeSet<_>>(), wanted, "{found:?}");
    assert_eq!(processes(&folder), BTreeMap::new());
}

#[test]
fn a_port_is_found_as_long_as_somebody_listens() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    assert!(ports([std::process::id()]).contains(&port));
    drop(listener);
    assert!(!listening().into_values().any(|other| other == port));
}

//! How much memory was taken, as the system counts it: an allocator that counts would have to stand in the place of the one
//! that every process here has.

/// What an input may take whatever its size, in bytes: the allocator takes memory in pieces of megabytes.
const ALLOWED: usize = 32 << 20;
/// What it may take for each of its bytes: two bytes of JSON can be a map with one entry, which takes several hundred.
const ALLOWED_PER_BYTE: usize = 768;

/// The most that this process has had: in memory since it was looked at last ([`Peak::begin`]), asked for ever. Of the latter
/// the system keeps nothing else, so what is only asked for shows once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peak {
    /// In memory, in bytes.
    resident: usize,
    /// Asked for, in bytes.
    asked: usize,
}

impl Peak {
    /// The most from now on: what is taken after it was taken once and freed would not show otherwise.
    pub(super) fn begin() -> Self {
        if is_alone() {
            // Where that cannot be done, only the first time shows.
            let _ = std::fs::write("/proc/self/clear_refs", "5");
        }
        Self::now()
    }

    /// The most until now; nothing where it cannot be told, or is not this test's alone.
    pub(super) fn now() -> Self {
        let status =
            if is_alone() { std::fs::read_to_string("/proc/self/status") } else { Ok(String::new()) };
        let status = status.unwrap_or_default();
        Self { resident: bytes(&status, "VmHWM:"), asked: bytes(&status, "VmPeak:") }
    }

    /// Of it what was in memory, in bytes.
    pub(super) fn resident(&self) -> usize {
        self.resident
    }

    /// In words by how much it has grown since `before`, if that is more than an input of `length` bytes may take.
    pub(super) fn grown_too_much(&self, before: &Self, length: usize) -> Option<String> {
        let allowed = ALLOWED + ALLOWED_PER_BYTE * length;
        let resident = self.resident.saturating_sub(before.resident);
        let asked = self.asked.saturating_sub(before.asked);
        (resident.max(asked) > allowed)
            .then(|| format!("{resident} bytes of memory ({asked} asked for), more than {allowed}"))
    }
}

/// In a process with other tests their memory would count, too.
fn is_alone() -> bool {
    std::env::var("NEXTEST_EXECUTION_MODE").is_ok_and(|mode| mode == "process-per-test")
}

/// A line of `/proc/self/status`, which counts in kB.
fn bytes(status: &str, name: &str) -> usize {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kilobytes: Option<usize> = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    kilobytes.unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_compared_with_what_may_be() {
        let of = |text: &str| Peak { resident: bytes(text, "VmHWM:"), asked: bytes(text, "VmPeak:") };
        let before = of("Name:\tx\nVmPeak:\t  200000 kB\nVmHWM:\t   30000 kB\n");
        assert_eq!((before.resident, before.asked), (30_720_000, 204_800_000));
        let after = of("VmPeak:\t  300000 kB\nVmHWM:\t   30000 kB\n");
        assert!(after.grown_too_much(&before, 10).unwrap().contains("102400000 asked for"));
        assert_eq!(after.grown_too_much(&before, 100_000), None);
        assert_eq!(before.grown_too_much(&before, 0), None);
    }

    #[test]
    fn what_was_taken_before_hides_nothing() {
        if !is_alone() || std::fs::write("/proc/self/clear_refs", "5").is_err() {
            return; // It cannot be told here.
        }
        // More than an allocator keeps.
        let take = || drop(std::hint::black_box(vec![1_u8; ALLOWED * 4]));
        take();
        let before = Peak::begin();
        take();
        assert!(Peak::now().grown_too_much(&before, 0).unwrap().contains("bytes of memory"));
    }
}

//! stats: what a container has used.

use serde::Serialize;

use super::Held;
use crate::cgroup::Stats;
use crate::error::Result;
use crate::state::{ProcessId, Root, State};

/// Figures of a container at one moment.
#[derive(Debug, Serialize)]
pub struct Snapshot {
    /// Its cgroup's.
    #[serde(flatten)]
    pub cgroup: Stats,
    /// Those of its network's interfaces; none where it has no network of its own, or has ended.
    pub network: Option<Vec<Interface>>,
}

/// A network interface: what came in and went out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Interface {
    /// Its name in the container.
    pub name: String,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets received.
    pub rx_packets: u64,
    /// Packets that were received with errors.
    pub rx_errors: u64,
    /// Packets that were received and dropped.
    pub rx_dropped: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Packets that could not be sent.
    pub tx_errors: u64,
    /// Packets that were dropped instead of sent.
    pub tx_dropped: u64,
}

/// Reads the figures, of a container that has ended too, until it is deleted.
///
/// # Errors
/// No such container.
pub fn stats(root: &Root, id: &str) -> Result<Snapshot> {
    let held = Held::peek(root, id)?;
    Ok(Snapshot { cgroup: held.state.cgroup.stats(), network: network(&held.state) })
}

/// Processes of a container that were killed because memory ran out; none where nobody counts.
pub fn oom_kills(root: &Root, id: &str) -> Option<u64> {
    Held::peek(root, id).ok()?.state.cgroup.oom_kills()
}

fn network(state: &State) -> Option<Vec<Interface>> {
    if !state.init.is_alive() {
        return None;
    }
    let ProcessId { pid, .. } = state.init;
    let namespace = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/net")).ok();
    let own = namespace("self");
    // Without one of its own the figures would be the host's.
    if own.is_some() && own == namespace(&pid.to_string()) {
        return None;
    }
    let text = std::fs::read_to_string(format!("/proc/{pid}/net/dev")).ok()?;
    Some(text.lines().filter_map(interface).collect())
}

/// `eth0: 8 figures received, 8 sent`, below two lines of headings.
fn interface(line: &str) -> Option<Interface> {
    let (name, figures) = line.split_once(':')?;
    let figures: Vec<u64> = figures.split_whitespace().map_while(|it| it.parse().ok()).collect();
    let [rx_bytes, rx_packets, rx_errors, rx_dropped, _, _, _, _, sent @ ..] = &figures[..] else {
        return None;
    };
    let [tx_bytes, tx_packets, tx_errors, tx_dropped, ..] = sent else { return None };
    Some(Interface {
        name: name.trim().to_owned(),
        rx_bytes: *rx_bytes,
        rx_packets: *rx_packets,
        rx_errors: *rx_errors,
        rx_dropped: *rx_dropped,
        tx_bytes: *tx_bytes,
        tx_packets: *tx_packets,
        tx_errors: *tx_errors,
        tx_dropped: *tx_dropped,
    })
}

#[cfg(test)]
mod tests {
    use super::interface;

    #[test]
    fn an_interface_is_a_line_with_sixteen_figures() {
        assert_eq!(interface("Inter-|   Receive    |  Transmit"), None);
        assert_eq!(interface(" face |bytes    packets errs drop fifo frame compressed"), None);
        let line = "  eth0: 10 2 3 4 0 0 0 0    50 6 7 8 0 0 0 0";
        let found = interface(line).map(|it| (it.name, it.rx_dropped, it.tx_bytes, it.tx_errors));
        assert_eq!(found, Some(("eth0".to_owned(), 4, 50, 7)));
    }
}

//! Talks to the service manager: that the agent is ready, what it does, that it lives.
//!
//! systemd's protocol of `sd_notify(3)`: one datagram of lines to the socket that `NOTIFY_SOCKET` names. Without one nothing is
//! said. Nothing here fails a run: a manager that does not listen is not the agent's trouble.

use std::time::Duration;

/// What the manager is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice<'a> {
    /// The configuration is read, and the loop goes round.
    Ready,
    /// The configuration is read again; `Ready` follows.
    Reloading,
    /// The agent ends; it may take a while.
    Stopping,
    /// The loop has gone round.
    Alive,
    /// A line for `systemctl status`.
    Status(&'a str),
}

impl Notice<'_> {
    fn text(&self) -> String {
        match self {
            Self::Ready => "READY=1\n".to_owned(),
            Self::Reloading => format!("RELOADING=1\nMONOTONIC_USEC={}\n", monotonic_microseconds()),
            Self::Stopping => "STOPPING=1\n".to_owned(),
            Self::Alive => "WATCHDOG=1\n".to_owned(),
            // A line more would be a variable of its own.
            Self::Status(text) => format!("STATUS={}\n", text.replace(|c: char| c.is_control(), " ")),
        }
    }
}

/// The socket of the service manager, where there is one.
#[derive(Debug)]
pub struct Supervisor {
    #[cfg(unix)]
    socket: Option<(std::os::unix::net::UnixDatagram, std::os::unix::net::SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Supervisor {
    /// The manager that the environment names. `environment` looks up one variable.
    pub fn find(environment: impl Fn(&str) -> Option<String>) -> Self {
        let watchdog = watchdog(&environment, std::process::id());
        #[cfg(unix)]
        {
            let socket = environment("NOTIFY_SOCKET").and_then(|name| connect(&name));
            Self { socket, watchdog }
        }
        #[cfg(not(unix))]
        Self { watchdog }
    }

    /// How often to say `Alive` at least: half of what the manager waits; nothing where it does not wait.
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// Tells the manager.
    pub fn tell(&self, notice: &Notice<'_>) {
        #[cfg(unix)]
        if let Some((socket, address)) = &self.socket
            && let Err(error) = socket.send_to_addr(notice.text().as_bytes(), address)
        {
            tracing::debug!(%error, "the service manager does not listen");
        }
        #[cfg(not(unix))]
        let _ = notice.text();
    }
}

#[cfg(unix)]
fn connect(name: &str) -> Option<(std::os::unix::net::UnixDatagram, std::os::unix::net::SocketAddr)> {
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    let address = match name.strip_prefix('@') {
        #[cfg(target_os = "linux")]
        Some(rest) => {
            <SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(rest.as_bytes()).ok()?
        }
        #[cfg(not(target_os = "linux"))]
        Some(_) => return None,
        None => SocketAddr::from_pathname(name).ok()?,
    };
    Some((UnixDatagram::unbound().ok()?, address))
}

fn watchdog(environment: &impl Fn(&str) -> Option<String>, own: u32) -> Option<Duration> {
    let microseconds: u64 = environment("WATCHDOG_USEC")?.parse().ok()?;
    // Set for another process, where this one is its child.
    let meant = environment("WATCHDOG_PID").is_none_or(|pid| pid.parse() == Ok(own));
    (meant && microseconds > 0).then(|| Duration::from_micros(microseconds / 2))
}

/// Microseconds of the clock that only goes forward, which systemd compares.
#[cfg(unix)]
fn monotonic_microseconds() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1_000_000 + now.tv_nsec.unsigned_abs() / 1000
}

#[cfg(not(unix))]
fn monotonic_microseconds() -> u64 {
    0
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;

    #[test]
    fn a_socket_gets_every_notice_on_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let path = path.display().to_string();
        let variable = |name: &str| match name {
            "NOTIFY_SOCKET" => Some(path.clone()),
            "WATCHDOG_USEC" => Some("60000000".to_owned()),
            _ => None,
        };
        let supervisor = Supervisor::find(variable);
        assert_eq!(supervisor.watchdog(), Some(Duration::from_secs(30)));
        for (notice, expected) in [
            (Notice::Ready, "READY=1\n"),
            (Notice::Alive, "WATCHDOG=1\n"),
            (Notice::Stopping, "STOPPING=1\n"),
            (Notice::Status("3 VMs\nREADY=0"), "STATUS=3 VMs READY=0\n"),
        ] {
            supervisor.tell(&notice);
            let mut buffer = [0; 256];
            let length = socket.recv(&mut buffer).unwrap();
            assert_eq!(std::str::from_utf8(&buffer[..length]).unwrap(), expected);
        }
        supervisor.tell(&Notice::Reloading);
        let mut buffer = [0; 256];
        let length = socket.recv(&mut buffer).unwrap();
        let text = std::str::from_utf8(&buffer[..length]).unwrap();
        let time: u64 = text.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap().trim().parse().unwrap();
        assert!(time > 0);
    }

    #[test]
    fn without_a_manager_nothing_is_said_and_nothing_fails() {
        let supervisor = Supervisor::find(|_| None);
        supervisor.tell(&Notice::Ready);
        assert_eq!(supervisor.watchdog(), None);
        let gone = Supervisor::find(|name| (name == "NOTIFY_SOCKET").then(|| "/nowhere/notify".to_owned()));
        gone.tell(&Notice::Ready);
        let of_another = |name: &str| match name {
            "WATCHDOG_USEC" => Some("60000000".to_owned()),
            "WATCHDOG_PID" => Some("1".to_owned()),
            _ => None,
        };
        assert_eq!(Supervisor::find(of_another).watchdog(), None);
    }
}

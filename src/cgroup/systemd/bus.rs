//! Asking systemd over D-Bus, and waiting for it to have done so.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use dbus::arg::{RefArg, Variant};
use dbus::blocking::LocalConnection;
use dbus::blocking::stdintf::org_freedesktop_dbus::Properties;
use dbus::channel::Channel;
use dbus::message::MatchRule;

use super::{Manager, Property, Unit, Value};
use crate::error::{Error, Kind, Result};
use crate::sys::privilege;

const SERVICE: &str = "org.freedesktop.systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const OBJECT: &str = "/org/freedesktop/systemd1";

/// As long as anything waits for a unit to start.
const PATIENCE: Duration = Duration::from_secs(30);
/// A unit of that name may be about to go.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

type OnTheBus = Vec<(&'static str, Variant<Box<dyn RefArg>>)>;

pub(super) fn start(unit: &Unit, properties: &[Property]) -> Result<()> {
    let bus = Bus::open(unit.manager)?;
    let deadline = Instant::now() + PATIENCE;
    let mut pause = FIRST_PAUSE;
    loop {
        match bus.start(unit, properties, deadline) {
            Err(Failure::Call(error))
                if error.name() == Some("org.freedesktop.systemd1.UnitExists")
                    && Instant::now() < deadline
                    && !bus.is_active(unit) =>
            {
                // A container of that name was deleted just now, or left a failed unit behind.
                let _ = bus.call::<()>("ResetFailedUnit", (unit.name.as_str(),));
                std::thread::sleep(pause);
                pause = LONGEST_PAUSE.min(pause * 2);
            }
            outcome => return outcome.map_err(|failure| failure.explained("start", unit)),
        }
    }
}

pub(super) fn stop(unit: &Unit) -> Result<()> {
    let arguments = (unit.name.as_str(), "replace");
    match Bus::open(unit.manager)?.call::<(dbus::Path<'static>,)>("StopUnit", arguments) {
        Err(error) if error.name() != Some("org.freedesktop.systemd1.NoSuchUnit") => {
            Err(Failure::Call(error).explained("stop", unit))
        }
        _ => Ok(()),
    }
}

pub(super) fn set(unit: &Unit, properties: &[Property]) -> Result<()> {
    // Until the machine or the unit ends; what is for ever is on disk.
    let runtime = true;
    let arguments = (unit.name.as_str(), runtime, on_the_bus(properties));
    Bus::open(unit.manager)?
        .call::<()>("SetUnitProperties", arguments)
        .map_err(|error| Failure::Call(error).explained("change the properties of", unit))
}

enum Failure {
    Call(dbus::Error),
    /// What became of the job: `failed`, `canceled`, `timeout` …
    Job(String),
}

impl Failure {
    fn explained(self, verb: &str, unit: &Unit) -> Error {
        let what = format!("have systemd {verb} {:?} in {:?}", unit.name, unit.slice);
        let (why, name) = match &self {
            Failure::Call(error) => {
                (error.message().unwrap_or("no answer").to_owned(), error.name().unwrap_or(""))
            }
            Failure::Job(result) => (format!("the job's result is {result:?}"), ""),
        };
        let why = why.trim_end_matches('.');
        let error =
            Error::new(Kind::Other, format!("{what}: {why}")).asked_by("$.linux.cgroupsPath");
        match name {
            "org.freedesktop.systemd1.UnitExists" => {
                error.hint("give the container another name, or end what has this one")
            }
            "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired"
            | "org.freedesktop.DBus.Error.AccessDenied" => {
                error.hint("run as root, or in a session of the user's own systemd")
            }
            _ => error,
        }
    }
}

struct Bus(LocalConnection);

impl Bus {
    fn open(manager: Manager) -> Result<Self> {
        let address = match manager {
            Manager::System => std::env::var("DBUS_SYSTEM_BUS_ADDRESS")
                .unwrap_or_else(|_| "unix:path=/run/dbus/system_bus_socket".to_owned()),
            Manager::User => user_address(),
        };
        let connected = Channel::open_private(&address).and_then(|mut channel| {
            channel.register()?;
            Ok(channel)
        });
        connected.map(|channel| Bus(channel.into())).map_err(|error| {
            let why = error.message().unwrap_or("no answer").to_owned();
            Error::new(Kind::Other, format!("connect to systemd's bus at {address}: {why}"))
                .asked_by("$.linux.cgroupsPath")
                .hint(match manager {
                    Manager::System => "install dbus, or give a path like \"/machine/box\"",
                    Manager::User => {
                        "log in with a session of its own (loginctl enable-linger), or give a path"
                    }
                })
        })
    }

    fn call<R: dbus::arg::ReadAll + 'static>(
        &self,
        method: &str,
        arguments: impl dbus::arg::AppendAll,
    ) -> std::result::Result<R, dbus::Error> {
        self.0.with_proxy(SERVICE, OBJECT, PATIENCE).method_call(MANAGER, method, arguments)
    }

    /// Starts a unit and waits for the job to be done.
    fn start(
        &self,
        unit: &Unit,
        properties: &[Property],
        deadline: Instant,
    ) -> std::result::Result<(), Failure> {
        let removed: Rc<RefCell<Vec<(String, String)>>> = Rc::default();
        let heard = removed.clone();
        let rule = MatchRule::new_signal(MANAGER, "JobRemoved");
        let token = self
            .0
            .add_match(rule, move |signal: (u32, dbus::Path<'static>, String, String), _, _| {
                let (_, job, _, result) = signal;
                heard.borrow_mut().push((job.to_string(), result));
                true
            })
            .map_err(Failure::Call)?;
        // It says nothing to those who did not ask.
        self.call::<()>("Subscribe", ()).map_err(Failure::Call)?;
        let auxiliary: Vec<(&str, OnTheBus)> = Vec::new();
        let arguments = (unit.name.as_str(), "replace", on_the_bus(properties), auxiliary);
        let outcome = self
            .call::<(dbus::Path<'static>,)>("StartTransientUnit", arguments)
            .map_err(Failure::Call)
            .and_then(|(job,)| self.wait(&job, &removed, deadline));
        let _ = self.0.remove_match(token);
        outcome
    }

    fn wait(
        &self,
        job: &str,
        removed: &RefCell<Vec<(String, String)>>,
        deadline: Instant,
    ) -> std::result::Result<(), Failure> {
        loop {
            if let Some((_, result)) = removed.borrow().iter().find(|(path, _)| path == job) {
                return match result.as_str() {
                    "done" => Ok(()),
                    other => Err(Failure::Job(other.to_owned())),
                };
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Failure::Job("not known after 30 seconds".to_owned()));
            }
            self.0.process(left).map_err(Failure::Call)?;
        }
    }

    /// Whether processes are, or may be, in a unit of that name.
    fn is_active(&self, unit: &Unit) -> bool {
        let found = self.call::<(dbus::Path<'static>,)>("GetUnit", (unit.name.as_str(),));
        let Ok((path,)) = found else { return false };
        let state: std::result::Result<String, _> = self
            .0
            .with_proxy(SERVICE, path, PATIENCE)
            .get("org.freedesktop.systemd1.Unit", "ActiveState");
        state.is_ok_and(|state| matches!(state.as_str(), "active" | "activating" | "reloading"))
    }
}

/// The bus of a user's session, as systemd's pam module and sd_bus_open_user(3) have it.
fn user_address() -> String {
    let address = std::env::var("DBUS_SESSION_BUS_ADDRESS").unwrap_or_else(|_| {
        let uid = nix::unistd::geteuid();
        let folder =
            std::env::var("XDG_RUNTIME_DIR").unwrap_or_else(|_| format!("/run/user/{uid}"));
        format!("unix:path={folder}/bus")
    });
    if privilege::in_user_namespace() { over_bridge(&address) } else { address }
}

/// The bus knows its user by the host's number, and libdbus would name the one in here. systemd's
/// bridge names none. (Its --user means the system's bus in systemd 252.)
fn over_bridge(address: &str) -> String {
    format!(
        "unixexec:path=systemd-stdio-bridge,argv1={}",
        escaped(&format!("--bus-path={address}"))
    )
}

/// As a value in an address has it (D-Bus specification, "Server Addresses").
fn escaped(value: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_/.\\*".contains(&byte);
    value
        .bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02x}") })
        .collect()
}

fn on_the_bus(properties: &[Property]) -> OnTheBus {
    let value = |value: &Value| -> Box<dyn RefArg> {
        match value.clone() {
            Value::Switch(value) => Box::new(value),
            Value::Number(value) => Box::new(value),
            Value::Text(value) => Box::new(value),
            Value::Set(bits) => Box::new(bits),
            Value::Processes(pids) => Box::new(pids),
            Value::Devices(devices) => Box::new(devices),
        }
    };
    properties.iter().map(|property| (property.name, Variant(value(&property.value)))).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_address_within_an_address() {
        assert_eq!(
            super::over_bridge("unix:path=/run/user/1000/bus"),
            "unixexec:path=systemd-stdio-bridge,\
             argv1=--bus-path%3dunix%3apath%3d/run/user/1000/bus"
        );
    }
}

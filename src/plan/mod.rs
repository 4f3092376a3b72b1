//! The plan: what is going to happen, decided before anything does.
//!
//! [`Plan::compile`] is a pure function of the spec, the host's facts and the
//! situation. Policy and order are decided here and nowhere else; the child
//! walks the steps, the parent does what it owes at their waits. Printed, it
//! is one step a line.

mod cgroup_mounts;
mod devices;
mod display;
mod facts;
mod hooks;
mod host_mounts;
mod id_mapped;
mod id_maps;
mod keyring;
mod labels;
mod mounts;
mod namespaces;
mod net_devices;
mod options;
mod process;
mod rootfs;
mod scheduling;
pub mod seccomp;
mod situation;
pub mod step;

use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use caps::Capability;
use oci_spec::runtime::{Process, Spec};
use serde::{Deserialize, Serialize};

pub(crate) use display::namespaces as namespace_names;
pub use facts::Facts;
pub use hooks::{HookProgram, HookPrograms};
use host_mounts::Tree;
pub use id_mapped::{MappedTree, MountIds};
pub use id_maps::{IdMap, IdMaps};
pub use labels::SecurityModules;
pub use namespaces::Born;
pub(crate) use namespaces::asked_for as namespace_asked_for;
pub use net_devices::NetDevice;
pub(crate) use options::option_names;
pub use process::required as process_required;
pub(crate) use scheduling::shown_list;
pub use situation::Situation;
use step::{Namespace, Planned, StartSignal, Step};

use crate::cgroup::{self, CgroupPlan};
use crate::error::{Error, Result};
use crate::resctrl::{self, ResctrlPlan};

/// An ordered list of steps, and what the parent does beside it.
///
/// It is plain data, and goes to another process without what is the parent's alone.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Plan {
    /// What the clone makes.
    pub born: Born,
    /// Where the container goes and what limits it there.
    #[serde(skip)]
    pub cgroup: CgroupPlan,
    /// Its shares of cache and memory bandwidth.
    #[serde(skip)]
    pub resctrl: Option<ResctrlPlan>,
    /// What the parent opens for the child, with other ids.
    #[serde(skip)]
    pub mapped: Vec<MappedTree>,
    /// What the parent moves into the container's network.
    #[serde(skip)]
    pub net_devices: Vec<NetDevice>,
    /// Programs to run at the specification's moments.
    pub hooks: HookPrograms,
    /// Who is to hear from the filter of system calls.
    #[serde(skip)]
    pub listener: Option<seccomp::Listener>,
    /// What the child does.
    pub steps: Vec<Planned>,
    /// What the specification wants said and not refused.
    #[serde(skip)]
    pub warnings: Vec<String>,
}

impl Plan {
    /// Decides how a container is created and started.
    ///
    /// # Errors
    /// A property that the specification does not allow, that this host cannot give, or that is
    /// not supported yet; never silently left out.
    pub fn compile(spec: &Spec, facts: &Facts, situation: &Situation) -> Result<Plan> {
        let linux = spec.linux().as_ref();
        let asked = cgroup::Asked {
            path: linux.and_then(|linux| linux.cgroups_path().as_deref()),
            id: &situation.id,
            resources: linux.and_then(|linux| linux.resources().as_ref()),
            owner: cgroup_mounts::owner(spec),
            devices_default: true,
            rootless: facts.rootless,
        };
        let cgroup_plan = cgroup::plan(&facts.hierarchies, asked)?;
        let rdt = linux.and_then(|linux| linux.intel_rdt().as_ref());
        let resctrl = resctrl::plan(rdt, facts.resctrl.as_deref(), &situation.id)?;
        let mut compiler = Compiler::new(facts, situation, cgroup_plan, HookPrograms::of(spec)?);
        let born = compiler.container(spec)?;
        let Compiler { cgroup, mapped, net_devices, hooks, listener, steps, mut warnings, .. } =
            compiler;
        warnings.extend_from_slice(cgroup.warnings());
        Ok(Plan { born, cgroup, resctrl, mapped, net_devices, listener, hooks, steps, warnings })
    }

    /// Decides how a further process enters a running container.
    ///
    /// # Errors
    /// As [`Plan::compile`].
    pub fn compile_exec(
        spec: &Spec,
        process: &Process,
        facts: &Facts,
        situation: &Situation,
    ) -> Result<Plan> {
        let none = CgroupPlan::default();
        let mut compiler = Compiler::new(facts, situation, none, HookPrograms::default());
        compiler.sort_namespaces(spec);
        let all = namespaces::of_container(spec);
        let mut born = Born { enter_container: all & libc::CLONE_NEWPID, ..Born::default() };
        if !facts.can(Capability::CAP_SYS_ADMIN) {
            born.enter_container |= all & libc::CLONE_NEWUSER;
        }
        match process.oom_score_adj() {
            // Who is in the container's user namespace may not write the host's file any more.
            Some(value) if born.enter_container & libc::CLONE_NEWUSER != 0 => {
                born.oom_score_adj = Some(value);
            }
            Some(value) => compiler.oom_score_adj(value),
            None => {}
        }
        // Before the cgroup namespace is joined, out of which the cgroup's own parents are not seen.
        compiler.push(Step::JoinCgroup, "");
        born.affinity = compiler.exec_affinity(process)?;
        compiler.exec_labels(process)?;
        compiler.sort_tree(spec);
        let chroot = compiler.tree != Tree::Apart;
        if chroot {
            // Not the root of its init, which may have changed that.
            let rootfs = match compiler.tree {
                Tree::OnHost => situation.tree.clone(),
                _ => compiler.rootfs(spec)?,
            };
            let path = c_path(&rootfs, || "$.root.path".to_owned())?;
            compiler.push(Step::AttachRootfs { path }, "$.root.path");
        }
        let namespaces = all & !born.enter_container;
        if namespaces != 0 {
            compiler.push(Step::JoinContainer { namespaces }, "");
        }
        if compiler.has(Namespace::User) {
            compiler.push(Step::BecomeRoot, "$.linux.namespaces");
        }
        compiler.push(Step::NewSession, "");
        compiler.session_keyring(process, false)?;
        compiler.streams(process, false)?;
        if chroot {
            compiler.push(Step::Chroot, "$.root.path");
        }
        compiler.process(spec, process, None)?;
        let Compiler { listener, steps, warnings, .. } = compiler;
        Ok(Plan { born, listener, steps, warnings, ..Plan::default() })
    }

    /// Whether the child clones again, and another goes on in its place.
    pub fn clones_again(&self) -> bool {
        self.steps.iter().any(|planned| matches!(planned.step, Step::CloneAgain { .. }))
    }

    /// Where the container's tree is, if it is mounted in the host's mount namespace.
    pub fn host_tree(&self) -> Option<&Path> {
        self.steps.iter().find_map(|planned| match &planned.step {
            Step::MountRootfs { at, .. } => Some(Path::new(OsStr::from_bytes(at.to_bytes()))),
            _ => None,
        })
    }

    /// A step as an error names it.
    pub fn step(&self, index: usize) -> Option<&Planned> {
        self.steps.get(index)
    }
}

/// A plan in the making.
pub(crate) struct Compiler<'a> {
    facts: &'a Facts,
    situation: &'a Situation,
    cgroup: CgroupPlan,
    mapped: Vec<MappedTree>,
    net_devices: Vec<NetDevice>,
    hooks: HookPrograms,
    listener: Option<seccomp::Listener>,
    steps: Vec<Planned>,
    warnings: Vec<String>,
    new_namespaces: i32,
    joined: Vec<(Namespace, PathBuf, usize)>,
    /// The mounts whose sources are opened beforehand.
    sources: Vec<String>,
    cgroup_awaited: bool,
    /// Whether the container's groups can be set.
    setgroups: bool,
    /// What is asked of the container's `/`: the flag, and whether of all below too.
    root_propagation: Option<(u64, bool)>,
    /// Where its mounts go.
    tree: Tree,
    /// What makes mounts read-only in which more is made first.
    seals: Vec<Planned>,
}

impl<'a> Compiler<'a> {
    fn new(
        facts: &'a Facts,
        situation: &'a Situation,
        cgroup: CgroupPlan,
        hooks: HookPrograms,
    ) -> Self {
        Compiler {
            facts,
            situation,
            cgroup,
            mapped: Vec::new(),
            net_devices: Vec::new(),
            hooks,
            listener: None,
            steps: Vec::with_capacity(96),
            warnings: Vec::new(),
            new_namespaces: 0,
            joined: Vec::new(),
            sources: Vec::new(),
            cgroup_awaited: false,
            setgroups: situation.setgroups.unwrap_or(facts.setgroups),
            root_propagation: None,
            tree: Tree::Apart,
            seals: Vec::new(),
        }
    }

    fn push(&mut self, step: Step, asked_by: impl Into<String>) {
        let asked_by = Some(asked_by.into()).filter(|path| !path.is_empty());
        self.steps.push(Planned { step, asked_by });
    }

    fn oom_score_adj(&mut self, value: i32) {
        let by_user = self.facts.rootless;
        self.push(Step::OomScoreAdj { value, by_user }, "$.process.oomScoreAdj");
    }

    /// The order of a container's making; each line says why it stands where it stands.
    fn container(&mut self, spec: &Spec) -> Result<Born> {
        self.sort_namespaces(spec);
        self.sort_propagation(spec)?;
        self.sort_tree(spec);
        self.check_host_mounts(spec)?;
        let none = process::absent();
        let process = match (spec.process(), self.situation.start) {
            (Some(process), _) => process,
            (None, StartSignal::Socket) => &none,
            (None, StartSignal::Parent) => return Err(process::required()),
        };
        let rootfs = self.rootfs(spec)?;
        // Lowering it takes a privilege that a user namespace does not give.
        let oom_score_adj = process.oom_score_adj();
        if let (Some(value), false) = (oom_score_adj, self.new_user_namespace()) {
            self.oom_score_adj(value);
        }
        let mut born = self.namespaces(spec)?;
        born.oom_score_adj = oom_score_adj.filter(|_| self.new_user_namespace());
        let mounts = self.tree != Tree::Bare;
        if mounts {
            // Still as the host's root, for whom the folders on the way may be open alone.
            self.attach_rootfs(spec, &rootfs)?;
        }
        if self.has(Namespace::User) {
            if self.cgroup_refuses_root_of(&born) {
                self.await_cgroup();
            }
            self.push(Step::BecomeRoot, "$.linux.namespaces");
        }
        self.push(Step::NewSession, "");
        self.session_keyring(process, true)?;
        self.host_names(spec)?;
        if mounts {
            self.mounts(spec)?;
            self.devices(spec)?;
            let cwd = c_path(process.cwd(), || "$.process.cwd".to_owned())?;
            self.push(Step::MakeDir(cwd), "$.process.cwd");
            self.mount_label(spec)?;
            self.hidden_paths(spec)?;
        } else {
            let path = c_path(&rootfs, || "$.root.path".to_owned())?;
            self.push(Step::AttachRootfs { path }, "$.root.path");
        }
        self.streams(process, mounts)?;
        // Hooks find the container's network as it is to be.
        self.net_devices(spec)?;
        self.hooks_before_pivot();
        self.steps.append(&mut self.seals);
        // A hook may have brought the network device that one of them names; and they are written
        // through the host's /proc, so before the root changes.
        self.kernel_parameters(spec)?;
        self.exec_labels(process)?;
        self.enter_rootfs(spec)?;
        // By now the parent has had the whole time of the mounts for it.
        self.await_cgroup();
        self.all_processors();
        self.process(spec, process, Some(self.situation.start))?;
        self.warn_of_chroot(process);
        Ok(born)
    }

    fn host_names(&mut self, spec: &Spec) -> Result<()> {
        if let Some(name) = spec.hostname().as_deref().filter(|name| !name.is_empty()) {
            let name = c_string(name, || "$.hostname".to_owned())?;
            self.push(Step::Hostname(name), "$.hostname");
        }
        if let Some(name) = spec.domainname().as_deref().filter(|name| !name.is_empty()) {
            let name = c_string(name, || "$.domainname".to_owned())?;
            self.push(Step::Domainname(name), "$.domainname");
        }
        if self.new_namespaces & libc::CLONE_NEWNET != 0 {
            self.push(Step::LoopbackUp, "$.linux.namespaces");
        }
        Ok(())
    }

    fn kernel_parameters(&mut self, spec: &Spec) -> Result<()> {
        let sysctl = spec.linux().as_ref().and_then(|linux| linux.sysctl().as_ref());
        let mut sorted: Vec<_> = sysctl.into_iter().flatten().collect();
        // A JSON object has no order; a plan that prints the same twice has one.
        sorted.sort();
        for (key, value) in sorted {
            let at = format!("$.linux.sysctl[{key:?}]");
            let path = crate::spec::sysctl_path(key);
            if Path::new(&path)
                .components()
                .any(|part| !matches!(part, std::path::Component::Normal(_)))
            {
                let message = "no name of a kernel parameter";
                return Err(Error::spec(at, None, "config-linux.md#sysctl", message));
            }
            let path = c_string(&path, || at.clone())?;
            let value = c_string(value, || at.clone())?;
            self.push(Step::Sysctl { path, value }, at);
        }
        Ok(())
    }

    /// Waits for the cgroup, once; then the cgroup namespace can be made, with its root there.
    fn await_cgroup(&mut self) {
        if self.cgroup_awaited {
            return;
        }
        self.cgroup_awaited = true;
        self.push(Step::JoinCgroup, "$.linux.cgroupsPath");
        if self.new_namespaces & libc::CLONE_NEWCGROUP != 0 {
            let step = Step::Unshare { namespaces: libc::CLONE_NEWCGROUP };
            self.push(step, "$.linux.namespaces");
        }
    }
}

/// A string for the kernel; the config's must not contain a NUL.
pub(crate) fn c_string(text: &str, at: impl FnOnce() -> String) -> Result<CString> {
    CString::new(text).map_err(|_| nul(at(), &format!("{text:?}")))
}

/// A path for the kernel; the config's must not contain a NUL.
pub(crate) fn c_path(path: &Path, at: impl FnOnce() -> String) -> Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| nul(at(), &format!("{path:?}")))
}

fn nul(at: String, value: &str) -> Error {
    Error::spec(at, Some(value.to_owned()), "config.md", "a NUL byte cannot reach the kernel")
}

//! The messages of criu's protocol, as far as they are used (criu's images/rpc.proto).
//!
//! What is a string there is bytes here: the two are the same on the wire, and paths may have any.

/// `criu_req_type`.
pub(super) mod kind {
    pub(crate) const DUMP: i32 = 1;
    pub(crate) const RESTORE: i32 = 2;
    pub(crate) const PRE_DUMP: i32 = 4;
    pub(crate) const NOTIFY: i32 = 6;
    pub(crate) const FEATURE_CHECK: i32 = 9;
    pub(crate) const VERSION: i32 = 10;
}

/// `criu_req`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Request {
    #[prost(int32, required, tag = "1")]
    pub(super) kind: i32,
    #[prost(message, optional, tag = "2")]
    pub(super) options: Option<RequestOptions>,
    #[prost(bool, optional, tag = "3")]
    pub(super) notify_success: Option<bool>,
    #[prost(bool, optional, tag = "4")]
    pub(super) keep_open: Option<bool>,
    #[prost(message, optional, tag = "5")]
    pub(super) features: Option<Features>,
}

/// `criu_features`.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(super) struct Features {
    #[prost(bool, optional, tag = "1")]
    pub(super) mem_track: Option<bool>,
    #[prost(bool, optional, tag = "2")]
    pub(super) lazy_pages: Option<bool>,
}

/// `criu_opts`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RequestOptions {
    #[prost(int32, required, tag = "1")]
    pub(super) images_dir_fd: i32,
    #[prost(int32, optional, tag = "2")]
    pub(super) pid: Option<i32>,
    #[prost(bool, optional, tag = "3")]
    pub(super) leave_running: Option<bool>,
    #[prost(bool, optional, tag = "4")]
    pub(super) ext_unix_sk: Option<bool>,
    #[prost(bool, optional, tag = "5")]
    pub(super) tcp_established: Option<bool>,
    #[prost(bool, optional, tag = "6")]
    pub(super) evasive_devices: Option<bool>,
    #[prost(bool, optional, tag = "7")]
    pub(super) shell_job: Option<bool>,
    #[prost(bool, optional, tag = "8")]
    pub(super) file_locks: Option<bool>,
    #[prost(int32, optional, tag = "9")]
    pub(super) log_level: Option<i32>,
    #[prost(bytes = "vec", optional, tag = "10")]
    pub(super) log_file: Option<Vec<u8>>,
    #[prost(message, optional, tag = "11")]
    pub(super) page_server: Option<PageServerInfo>,
    #[prost(bool, optional, tag = "12")]
    pub(super) notify_scripts: Option<bool>,
    #[prost(bytes = "vec", optional, tag = "13")]
    pub(super) root: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "14")]
    pub(super) parent_images: Option<Vec<u8>>,
    #[prost(bool, optional, tag = "15")]
    pub(super) track_mem: Option<bool>,
    #[prost(bool, optional, tag = "16")]
    pub(super) auto_dedup: Option<bool>,
    #[prost(int32, optional, tag = "17")]
    pub(super) work_dir_fd: Option<i32>,
    #[prost(bool, optional, tag = "18")]
    pub(super) link_remap: Option<bool>,
    #[prost(bool, optional, tag = "24")]
    pub(super) manage_cgroups: Option<bool>,
    #[prost(message, repeated, tag = "25")]
    pub(super) cgroup_roots: Vec<CgroupRoot>,
    #[prost(bool, optional, tag = "26")]
    pub(super) restore_sibling: Option<bool>,
    #[prost(message, repeated, tag = "27")]
    pub(super) inherit_fds: Vec<InheritFd>,
    #[prost(int32, optional, tag = "34")]
    pub(super) manage_cgroups_mode: Option<i32>,
    #[prost(bytes = "vec", repeated, tag = "37")]
    pub(super) external: Vec<Vec<u8>>,
    #[prost(uint32, optional, tag = "38")]
    pub(super) empty_namespaces: Option<u32>,
    #[prost(message, repeated, tag = "39")]
    pub(super) join_namespaces: Vec<JoinNamespace>,
    #[prost(bytes = "vec", optional, tag = "44")]
    pub(super) freeze_cgroup: Option<Vec<u8>>,
    #[prost(bool, optional, tag = "46")]
    pub(super) tcp_skip_in_flight: Option<bool>,
    #[prost(bool, optional, tag = "48")]
    pub(super) lazy_pages: Option<bool>,
    #[prost(int32, optional, tag = "49")]
    pub(super) status_fd: Option<i32>,
    #[prost(bool, optional, tag = "50")]
    pub(super) orphan_pts_master: Option<bool>,
    #[prost(bytes = "vec", optional, tag = "51")]
    pub(super) config_file: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "53")]
    pub(super) lsm_profile: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "63")]
    pub(super) lsm_mount_context: Option<Vec<u8>>,
}

/// `criu_page_server_info`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct PageServerInfo {
    #[prost(bytes = "vec", optional, tag = "1")]
    pub(super) address: Option<Vec<u8>>,
    #[prost(int32, optional, tag = "2")]
    pub(super) port: Option<i32>,
}

/// `cgroup_root`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct CgroupRoot {
    #[prost(bytes = "vec", optional, tag = "1")]
    pub(super) controller: Option<Vec<u8>>,
    #[prost(bytes = "vec", required, tag = "2")]
    pub(super) path: Vec<u8>,
}

/// `inherit_fd`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct InheritFd {
    #[prost(bytes = "vec", required, tag = "1")]
    pub(super) key: Vec<u8>,
    #[prost(int32, required, tag = "2")]
    pub(super) fd: i32,
}

/// `join_namespace`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct JoinNamespace {
    #[prost(bytes = "vec", required, tag = "1")]
    pub(super) kind: Vec<u8>,
    #[prost(bytes = "vec", required, tag = "2")]
    pub(super) file: Vec<u8>,
}

/// `criu_resp`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Response {
    #[prost(int32, required, tag = "1")]
    pub(super) kind: i32,
    #[prost(bool, required, tag = "2")]
    pub(super) success: bool,
    #[prost(message, optional, tag = "5")]
    pub(super) notify: Option<Notify>,
    #[prost(int32, optional, tag = "7")]
    pub(super) errno: Option<i32>,
    #[prost(message, optional, tag = "8")]
    pub(super) features: Option<Features>,
    #[prost(bytes = "vec", optional, tag = "9")]
    pub(super) message: Option<Vec<u8>>,
    #[prost(message, optional, tag = "10")]
    pub(super) version: Option<Version>,
}

/// `criu_notify`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct Notify {
    #[prost(bytes = "vec", optional, tag = "1")]
    pub(super) script: Option<Vec<u8>>,
    #[prost(int32, optional, tag = "2")]
    pub(super) pid: Option<i32>,
}

/// `criu_version`.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(super) struct Version {
    #[prost(int32, required, tag = "1")]
    pub(super) major: i32,
    #[prost(int32, required, tag = "2")]
    pub(super) minor: i32,
    #[prost(int32, optional, tag = "4")]
    pub(super) sublevel: Option<i32>,
}

//! Which file system a file is on, as Linux's `mountinfo` says, and whether that is another machine's.

use std::{
    net::IpAddr,
    os::unix::ffi::OsStringExt as _,
    path::{Path, PathBuf},
};

/// File systems of this machine's own disks, memory and hypervisor.
const LOCAL: [&str; 26] = [
    "bcachefs", "btrfs", "devtmpfs", "erofs", "exfat", "ext2", "ext3", "ext4", "f2fs", "fuseblk", "hfsplus",
    "iso9660", "jfs", "msdos", "ntfs3", "overlay", "aufs", "ramfs", "reiserfs", "rootfs", "squashfs",
    "tmpfs", "vfat", "virtiofs", "xfs", "zfs",
];
/// File systems over the network that say in an option `addr` where the other end is.
const WITH_ADDRESS: [&str; 5] = ["nfs", "nfs4", "cifs", "smb3", "smbfs"];

/// Where the bytes of a file system are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Holder {
    /// This machine.
    Here,
    /// The machine at this address.
    At(IpAddr),
    /// Another machine, or nobody knows: mount point and type.
    Unseen(PathBuf, String),
}

/// Whose the file system of a path is. The path is absolute, without links.
pub(super) fn holder(mountinfo: &str, path: &Path) -> Holder {
    let mounts = mountinfo.lines().filter_map(parse).filter(|mount| path.starts_with(&mount.point));
    // A later line lies over an earlier one of the same point.
    let Some(mount) = mounts.max_by_key(|mount| mount.point.as_os_str().len()) else {
        return Holder::Unseen(path.to_owned(), "unknown".to_owned());
    };
    let option = |name: &str| mount.options.split(',').find_map(|o| o.strip_prefix(name)?.strip_prefix('='));
    if LOCAL.contains(&mount.kind)
        || (mount.kind == "9p" && !["tcp", "rdma"].map(Some).contains(&option("trans")))
    {
        return Holder::Here;
    }
    if WITH_ADDRESS.contains(&mount.kind)
        && let Some(address) = option("addr").and_then(|address| address.parse().ok())
    {
        return Holder::At(address);
    }
    Holder::Unseen(mount.point, mount.kind.to_owned())
}

struct Mount<'a> {
    point: PathBuf,
    kind: &'a str,
    options: &'a str,
}

/// `36 35 98:0 /root /point options shared:1 - type source super-options`
fn parse(line: &str) -> Option<Mount<'_>> {
    let (place, how) = line.split_once(" - ")?;
    let mut how = how.split(' ');
    let (kind, _source, options) = (how.next()?, how.next()?, how.next()?);
    Some(Mount { point: unescape(place.split(' ').nth(4)?), kind, options })
}

/// A blank, a tab, a line's end and a backslash stand as `\040` and so on.
fn unescape(text: &str) -> PathBuf {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = tail.get(..3).filter(|_| *first == b'\\').and_then(|code| std::str::from_utf8(code).ok());
        if let Some(byte) = code.and_then(|code| u8::from_str_radix(code, 8).ok()) {
            bytes.push(byte);
            rest = tail.get(3..).unwrap_or_default();
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    std::ffi::OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
22 1 8:1 / / rw - ext4 /dev/sda1 rw
30 22 0:5 / /mirror rw - ext4 /dev/sdb1 rw
31 30 0:6 / /mirror rw shared:1 - nfs4 10.1.2.3:/export rw,vers=4.2,clientaddr=10.9.9.9,addr=10.1.2.3
32 22 0:7 / /with\\040blank rw - cifs //files/x rw,addr=2001:db8::7,uid=0
33 22 0:8 / /s3 rw - fuse.s3fs s3fs rw
34 22 0:9 / /no-address rw - nfs files:/x rw
35 22 0:10 / /shared rw - 9p host rw,trans=virtio
36 22 0:11 / /far rw - 9p host rw,trans=tcp
37 22 0:12 / /brick rw - fuse.glusterfs a:/x rw
";

    #[test]
    fn the_last_and_deepest_mount_says_whose_the_bytes_are() {
        let unseen = |point: &str, kind: &str| Holder::Unseen(point.into(), kind.into());
        for (path, expected) in [
            ("/var/lib/sandyq.db", Holder::Here),
            ("/mirror/sandyq", Holder::At("10.1.2.3".parse().unwrap())),
            ("/mirrors", Holder::Here),
            ("/with blank/x", Holder::At("2001:db8::7".parse().unwrap())),
            ("/s3/backups", unseen("/s3", "fuse.s3fs")),
            ("/no-address", unseen("/no-address", "nfs")),
            ("/shared/x", Holder::Here),
            ("/far/x", unseen("/far", "9p")),
            ("/brick", unseen("/brick", "fuse.glusterfs")),
        ] {
            assert_eq!(holder(MOUNTS, Path::new(path)), expected, "{path}");
        }
        assert!(matches!(holder("", Path::new("/x")), Holder::Unseen(..)), "nothing is known");
    }
}

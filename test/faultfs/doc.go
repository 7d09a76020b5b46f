// Command faultfs is a file system that delays, fails and forgets.
//
//	faultfs [-forget] [-strict-names] BACKING MOUNTPOINT
//
// It shows the directory BACKING/tree at MOUNTPOINT through FUSE and passes
// every operation on, until it is told otherwise by lines on standard input.
// Each line is answered by one line, "ok" with what was asked for, or "error"
// with the reason; the first answer, before any command, says that the mount
// is there. The package test/faultdisk speaks this for Go programs. When
// standard input ends, or on SIGTERM or SIGINT, it unmounts and exits.
//
//	delay sync|write DURATION     from now on each takes that much longer
//	hang sync|write|all [PATH]    from now on they stand still; a killed process gets out
//	hang-hard sync|write|all      the same, and a killed process does not get out
//	fail sync|write|name ERRNO [N [PATH]]  the next N (0: all) fail with EIO, ENOSPC, ...
//	space BYTES|off               free space, as statfs tells it and as growth uses it up
//	stop N                        at the N-th change from now, and after it, everything that changes stands still
//	stopped                       whether it does: true or false
//	count                         changes and syncs since the start
//	release                       end all faults; what stands still goes on
//	crash all|SEED                forget, see below
//
// PATH limits a fault to that file, or what is below that directory, from
// MOUNTPOINT. A change is a write, a truncation, an allocation, a sync, or any
// operation on a name.
//
// # What crash forgets
//
// With -forget, crash does to the files what the loss of power does to ext4 on
// a disk with a volatile cache, for programs that were killed just before. All
// open files of the mount become invalid; it is mounted anew, without caches.
//
// Contents. What was written since the last fsync or fdatasync of the file is
// lost: all of it (crash all), or each block of 4 KiB by the toss of a coin
// (crash SEED: the same seed and the same operations give the same result).
// A lost block shows what it held at the last sync, and zeros if it was beyond
// the end then. The file's size goes back to that of the last sync, or with a
// seed stays, or ends at a block between the two. Syncing one file says nothing
// about another. Blocks are never torn.
//
// Names. Creating, removing, renaming and linking are in one order, that of
// ext4's journal: if one of them is there after the crash, so is every
// earlier one. Durable are those up to the last one that concerns something
// that was synced since: the directory it happened in, or the file itself,
// whose sync in ext4 commits its own creation or renaming. With
// -strict-names only the sync of the directory counts, which is all that POSIX
// promises. crash all undoes every later one, crash SEED leaves some. A rename
// is atomic. Unlike ext4's mount option auto_da_alloc, renaming a file over
// another does not sync it.
//
// A sync that stood still or was delayed has done nothing when a crash falls
// into it. sync_file_range does not reach a FUSE file system; it never promised
// durability. Modes, owners and times are not forgotten.
//
// # Limits
//
// The kernel holds a file's lock while it waits for its fsync, so a write to a
// file whose sync stands still does too. Space is counted by the sizes of
// files: writing into a hole of a file costs nothing, so `fail write ENOSPC`
// stands for that case. It needs root, which mounts without fusermount.
//
// The program knows nothing about who uses it. It owns one goroutine that reads
// commands, those of the FUSE server, and one per operation under way.
package main

// Package simdisk is a file system in memory for tests of durability: it knows
// what has been synced, fails or crashes at any step, and comes back as a disk
// would after a kill, a power loss, or a power loss that kept an unlucky part.
//
// It trusts nothing but that a rename is one change: names and content are
// separate, each directory is synced for itself, and a sync that failed has lost
// the data, as in Linux.
//
// A Disk may be used by many goroutines. Steps are counted over all of them, so
// a test that names a step runs one.
//
// Standards: it implements durable.FS, as strictly as POSIX lets a file system
// behave.
//
// Not here: permissions, links, time.
package simdisk

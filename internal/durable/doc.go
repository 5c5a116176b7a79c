// Package durable writes files so that they survive kill -9 and power loss: a
// file is complete under its name, or it is not there, or its former content
// is. It does so behind a small file-system interface in which tests can fail
// every step (simdisk).
//
// It trusts the file system to keep what a successful fsync of a file and of
// its directory covered, and to rename atomically; nothing else. An fsync that
// failed is never repeated: the kernel may have dropped the data, and would
// answer the second one with success.
//
// An FS may be used by any number of goroutines, a File by one at a time.
// Writers of the same name do not disturb each other; the last rename stands.
//
// Standards: POSIX.1-2017 fsync and rename, and the durability of directory
// entries that Linux documents in fsync(2).
//
// Not here: what is kept (proxy/spool, certs, internal/config).
package durable

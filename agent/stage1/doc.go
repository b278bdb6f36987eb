// Package stage1 is the first process of a stack's kernel, on the server and
// in each virtual machine: it puts the root filesystem together and gives way
// to that root's own first process.
//
// The root is a squashfs that is never unpacked: on the server a file of the
// initrd behind a loop device, in a VM a read-only virtio disk. A tmpfs lies
// over it, so that the root can be written and nothing of it survives. What
// changes more often than Debian does (this program, unit files, kernel
// modules) lives in the initrd and is laid over the root here; so the root is
// built once and fetched by the same digest again and again.
package stage1

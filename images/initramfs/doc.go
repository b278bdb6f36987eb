// Package initramfs is the recipe of the agent's own initramfs: which kernel
// modules a rack needs, what they depend on, the index by which the agent finds
// them at boot, and the archive that iPXE hands to the kernel.
//
// The archive is reproducible: the same inputs give the same bytes.
package initramfs

// Package boot decides, before anything is touched, all that carrying a server
// over into its stack needs. It is a contract: the [Plan], its one pure
// constructor, and the reasons for which a boot is refused.
//
// # Trust
//
// Nothing here looks at a signature: [NewPlan] takes a manifest that
// images/sign has already tied to a root key. What a plan names it names by
// digest, and package boot/fetch hands on no byte whose digest did not match.
// kexec_file_load checks neither initrd nor cmdline, so this chain is the check:
//
//	root key → delegation → operator's manifest → digest → bytes in memory → kexec
//
// A boot is refused, never tried in a hurry, when the machine cannot hold it:
// another architecture, too little memory. The refusal is a [RefusedError] with
// a reason code that becomes the node's status.
//
// The children do it: boot/netboot answers a booting firmware, boot/fetch gets
// bytes, boot/kexec loads and jumps.
package boot

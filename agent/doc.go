// Package agent is the boot story of one server: the first process of the
// inspecting initramfs, from /init to the jump into the assigned stack.
//
// # The story
//
// [Phases] is the table, in order. The agent mounts what a first process needs,
// loads modules that the hardware asks for, reads its trust roots, takes a DHCP
// lease, and reads the inventory meanwhile. It then makes an nkey for this boot,
// enrols on the bus, and stores its report. Slower readers (the neighbor on the
// cable, the BMC's sensors and log) begin then, store what they find beside all
// that follows, and are ended by the jump. From there it is read-only and waits, with heartbeats, until a grant arrives: signed by a reconciler, for
// this boot, naming a rule and a stack that an operator signed. It verifies,
// plans, fetches every artifact by digest into memory, loads the kernel,
// announces the handoff, waits until the bus has stored that word, and jumps.
//
// # What a failure does
//
// Each phase says in the table what its failure does; there are three answers.
//
//	retry    The phase is tried again, for ever, with growing pauses and jitter.
//	         The console and the timeline say what is waited for. No network,
//	         no DHCP answer, no bus, a broken download, a kexec that the kernel
//	         turned down.
//	degrade  The boot goes on, and the failure is a line and a finding: a
//	         module that does not load, a clock that is not to be had, a reader.
//	refuse   The grant is not carried out: event "refused" with reason and hint,
//	         and the agent waits for another grant. A signature, a digest, a
//	         grant for another boot, another architecture, too little memory.
//	         A refusal outranks retry in every phase after the grant.
//
// Nothing ends the first process. A panic in a phase counts as its failure.
package agent

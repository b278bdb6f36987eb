// Package netboot is the boot server: everything a machine asks for between
// power-on and the first line of the agent, answered from memory.
//
// Four listeners share one table of leases:
//
//   - DHCP (RFC 2131) on udp/67 of one named interface, authoritative, with the
//     boot options of PXE, UEFI HTTP boot and iPXE; and udp/4011 for PXE
//     firmware that comes back to the boot server port;
//   - TFTP (RFC 1350, blksize and tsize) on udp/69: undionly.kpxe, snponly.efi;
//   - HTTP: the iPXE script, kernel, initramfs, trust cpio, the loaders once
//     more for UEFI HTTP boot, and the handlers that the caller mounts;
//   - router advertisements, answered only when asked, with a lifetime of zero:
//     iPXE otherwise waits out its IPv6 configuration at every boot.
//
// # How long it takes
//
// From power-on to the kernel's start, in QEMU without KVM: SeaBIOS 3.5 s, of
// which iPXE's ROM offers its command line for 3 s; OVMF 5.9 s, of which the
// firmware collects DHCP offers for 4 s. Two answers save the rest: the router
// advertisement 4 to 6 s on BIOS, autoexec.ipxe 2 s on UEFI.
//
// # Who is answered
//
// Unknown machines are ignored, and reported, until Config.Known says
// otherwise. The address belongs to the MAC: firmware, iPXE, agent and
// hypervisor on one port get the same one, whatever client identifier they
// send. Before it listens the server asks whether another DHCP server is on the
// interface, and refuses to start when one answers.
//
// # What is believed
//
// Nothing. A MAC, a UUID or an address in an Event is a claim. Plain PXE has
// no trust in it; what is fetched here is checked by what booted, against the
// trust roots, and secrets never pass this way.
//
// # Reporting
//
// The package stands left of the fleet and knows no bus: it hands each Event to
// Config.Observe, from a goroutine of its own, through a bounded queue. A slow
// observer loses events, counted and logged, and never delays a boot.
package netboot

// Package lab is a rack on one machine: QEMU servers with real firmware, a
// switch, and a BMC per server whose power button works.
//
// Everything lives inside one set of namespaces, made anew by [Up]:
//
//	host namespace                 │ lab namespaces (PID, mount, network)
//	                               │
//	[Up] ── opens listeners ──exec─┼─▶ init, PID 1: forwarders, switches, BMCs
//	  └ waits                      │     ├─ ingot serve      on prov0 10.77.0.1
//	                               │     ├─ qemu r1u1 ┐      on switch "prov"
//	127.0.0.1:port ── forwarder ───┼─▶   └─ qemu r1u2 ┘
//	                               │   netns per BMC: 10.78.0.11, .12 on "mgmt"
//
// The state is a tmpfs that only these namespaces see. When init ends, for
// whatever cause, the kernel ends every process in it and the state is gone;
// init in turn ends with the process that called [Up]. So a lab leaves no
// process, no namespace and no file behind, but for the logs that
// [Options.Logs] asks for.
//
// A program that calls [Up] calls [MaybeInit] first thing in main: init is the
// same program, executed again.
package lab

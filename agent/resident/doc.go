// Package resident is the agent inside the running stack. It takes up the
// timeline where the agent before the jump left it, starts the hypervisor's
// virtual machines, and says of each layer (host, hypervisor, VM, container,
// service) what it is, since when, why, and by what evidence.
//
// Nothing waits for the bus: what is to be said waits in the uplink, virtual
// machines start at once. A layer is called up only by what was seen:
//
//	host        systemd says that it has started everything
//	hypervisor  the kernel created a virtual machine (KVM_CREATE_VM)
//	vm          its first process said hello over virtio-serial
//	container   it runs from the image that the stack names, and is well inside
//	service     it answered an HTTP request on the server's port
//
// A layer whose lower layer is down is unknown, not up. Nothing is restarted in
// silence: a QEMU that ended stays ended, and is said to have.
//
// # When the resident is killed
//
// systemd starts it again, and its virtual machines have lived on (Restart and
// KillMode of its unit). The handoff was deleted at the first read; what stands
// in for it is resident.json beside it: in memory, for root alone, of this boot
// alone. It holds the key and token that control takes again from the same key
// and boot and from nobody else, the manifest, what is known of each layer, how
// each QEMU is found, and the events whose acknowledgement was not seen. It is
// written before an event is sent, so that the next resident neither repeats a
// change nor loses one; it counts on from uplink.ResumeSeq. QEMU's link and
// console are sockets that it connects to again; a guest that writes meanwhile
// waits. A resident that is asked to end leaves its VMs as well, unless systemd
// is taking the server down.
package resident

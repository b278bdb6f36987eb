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
package resident

// Package vm is the first process of a virtual machine: it starts containerd,
// hears over the virtio-serial port what to run, checks that containerd holds
// exactly the image that the stack names, runs it, and says how it goes.
//
// Whatever goes wrong is said on the port and the console; the VM then stays
// up, so that the fault can be looked at.
package vm

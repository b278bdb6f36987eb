// Package serve runs a fleet in one process: the bus, control and the boot
// server, in this order, each with one line when it is ready. It owns the data
// directory:
//
//	bus/          streams, buckets, certificates, nkeys
//	keys/         signing keys, where no other directory is named
//	context.json  what an operator needs to speak to this fleet (secret)
package serve

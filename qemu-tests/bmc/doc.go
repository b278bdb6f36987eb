// Package bmc is the baseboard management controller of one lab server: one
// state with three faces, which are IPMI over the LAN (RMCP+), the system
// interface (KCS) that the guest sees, and Redfish over HTTPS.
//
// A [BMC] is told what the machine is by a [Machine] and works the machine
// through a [Server]. What one face changes (power, the boot override, the
// event log) the other two show at once, for there is nothing to keep in step.
// The IPMI messages are answered by go-ipmi's server; the commands that it
// lacks stand in this package.
package bmc

// Package control is the fleet's mind: one reconciler for each concern, each
// the one writer of its values, all by compare-and-set over a NATS connection.
//
//	enrolment  who a boot is, under which key it speaks     ingot-nodes
//	attempts   which boot of a server an event belongs to   ingot-attempts
//	status     where a node is in its life, and what it     ingot-status
//	           waits for; a pure function, see [Reduce]
//	grants     which stack a waiting boot is given          ingot-grant
//	power      what an operator asks of a BMC, and what     events
//	           the BMC says
//
// Everything that is decided stands in the buckets; a control that is started
// again takes up where it was.
package control

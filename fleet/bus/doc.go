// Package bus runs the fleet's NATS server inside the process of ingot serve, or
// uses one that runs apart: TLS, JetStream with every write synced, the streams
// and buckets of package fleet, and the auth callout that gives each connection
// its allow list.
//
// # Accounts
//
// Nodes do not live in the account that holds the streams. JetStream answers a
// publish with an acknowledgement to whatever reply subject the publisher
// chose, and it checks no permission for that: in one common account a node
// that names $KV.ingot-nodes.<other> as its reply overwrites that record. So
// there are four accounts:
//
//	INGOT  streams, buckets, control, operators
//	NODES  nodes and enrolling keys; imports from INGOT just the subjects of
//	       the laws, so answers come back into NODES, where nothing is stored
//	AUTH   the callout, alone
//	SYS    the server's own
//
// The control connection and the callout are in-process users that no socket
// can become.
//
// What leads from NODES to INGOT leads as a request, heartbeats too: across a
// route a stream import also carries what JetStream answers to a reply subject
// that a node chose.
//
// # A bus that runs apart
//
// [Layout] writes the same bus as configurations of nats-server: one, or a
// cluster of three that survives the loss of any one. [Attach] uses it, once it
// has seen that nothing is missing there; streams are then kept three times.
package bus

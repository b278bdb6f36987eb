// Package bus runs the fleet's NATS server inside the process of ingot serve:
// TLS, JetStream with every write synced, the streams and buckets of package
// fleet, and the auth callout that gives each connection its allow list.
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
package bus

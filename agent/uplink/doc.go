// Package uplink is a node's end of the bus: it enrols, speaks as the node that
// it is taken for, and keeps what it has to say in order until JetStream has
// acknowledged it.
//
// Events may be published from the first moment, before there is a network:
// they wait in memory with the time since the kernel's start, and get the time
// of day, the node ID and the attempt when they are sent. Sending is one at a
// time, in the order of publishing, and repeated with the same message ID until
// it is acknowledged, so an event is stored once.
//
//	u, err := uplink.New(uplink.Config{Role: fleet.RoleAgent, BootID: id})
//	err = u.Publish(fleet.SourceAgent, fleet.KindInit, data)  // waits in memory
//	reply, err := u.Connect(ctx, uplink.Target{Bus: trust.Bus, Enroll: request})
//	err = u.PublishAcked(ctx, fleet.SourceAgent, fleet.KindHandoff, data)
package uplink

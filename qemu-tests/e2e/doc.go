// Package e2e does the main job without a hand and checks it: the operator's
// own binary makes a lab, one server is powered on over Redfish and one over
// IPMI, both are inventoried, assigned a stack with a fresh nonce, and asked.
// Then it breaks things: the VM is killed and the fleet must say so; a manifest
// with one byte changed must be refused by the console, by control, and, from
// the hand of a captured controller, by the agent.
//
// With bad luck ([Options.BadLuck]) it does another job: the power of one server
// is cut in every phase of its boot, ingot serve is killed in every phase of the
// other's, and cables are pulled. Both end running what they were assigned, their
// timelines have no hole and no double, and nothing that the bus had acknowledged
// is lost.
package e2e

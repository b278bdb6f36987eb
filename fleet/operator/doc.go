// Package operator is the operator's side of the fleet bus: what a console, the
// CLI or a test may read and ask for with an [fleet.OperatorContext]. It signs
// what it asks for; it writes no status.
package operator

// Package images states what a server may be told to become: the stack
// manifest, the rule that maps servers to stacks, the grant that gives one
// stack to one boot of one server, and the digests and signatures that tie
// them together. It is a contract: types and pure functions, standard library
// only, no child of its own imported.
//
// Three documents, three signers:
//
//	Manifest  signed by an operator   what the bytes are, by digest
//	Rule      signed by an operator   which servers may run which manifests
//	Grant     signed by a reconciler  this rule, this manifest, this boot
//
// Operators and reconcilers are named by a [Delegation] that a root key signs.
// Only root keys stand in a server's trust roots. Every document travels in a
// DSSE [Envelope]; package images/sign makes and checks those.
//
// A captured bus can therefore delay a boot and never choose it; a captured
// controller can choose only among what operators have signed.
package images

// Package stack builds the stack that Ingot ships: the hypervisor's root, the
// virtual machine's root, the container's image, the initrds that put them
// together, and the signed manifest that names all of them by digest.
//
// The roots are made of Debian packages, of which mmdebstrap unpacks the files
// and runs nothing: no maintainer script, no configuration, and so nothing that
// differs from one build to the next. From these a [Recipe] takes what the
// layer needs and the libraries which that is linked against. What is our own
// and changes often (the agent, its units, kernel modules) is not in the roots
// but in the initrds; see agent/stage1.
package stack

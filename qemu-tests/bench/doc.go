// Package bench measures what the project claims: each figure beside its floor
// or its peer, both taken in the same run, since machines are noisy. The lab
// gives the figures of a boot; the benchmarks that stand beside the code give
// those of one part. `make bench` runs all of it and writes the table of the
// README.
//
// A floor is the same thing done with nothing of ours in it: the same firmware,
// kernel and path with a first process that does nothing, a kexec of files that
// lie in memory, JetStream without TLS, accounts and uplink.
package bench

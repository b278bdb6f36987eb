// Package ipmi asks the BMC by IPMI 2.0: in-band over KCS ([Read] for the first
// report, [Late] for what follows it), and over the LAN (RMCP+): [Crawl] for all
// that it knows, and power and the boot device.
//
// BMCs lie, stall and answer short. So:
//
//   - One goroutine owns a client, and one command is in flight. After a burst
//     there is a rest; a busy BMC is asked again a little later.
//   - Every command has a limit. A BMC that leaves two unanswered is asked
//     nothing more, and what was read stays, with a finding.
//   - Reads of FRUs and SDRs begin large and shrink where the BMC refuses. A
//     reservation is made only for records that come in pieces. Thresholds are
//     taken from the records.
//   - Decoders take bytes and no socket, are bounded and fuzzed. Lists that run
//     in a circle end where they come to something for the second time.
//   - A session is closed whatever happens. A refused account is not tried
//     again. Only cipher suites that sign and encrypt are used, and datagrams
//     that the BMC did not sign are dropped before go-ipmi sees them: it takes
//     them, and panics on some.
//   - What is not readable now is absent. Weak states (cipher suite 0, a user
//     without a name, the account of delivery, no authentication) are findings.
//
// COMPARISON.md has what ipmitool prints and this package leaves out.
package ipmi

// Source is how parts name this reader.
const Source = "ipmi"

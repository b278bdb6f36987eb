// Package ipmi asks the BMC by IPMI 2.0: in-band over KCS, for what the agent
// reports, and over the LAN (RMCP+), for power and the boot device. BMCs lie,
// stall and answer short: each exchange has a deadline, decoders run under
// recover, and what was set is read back.
package ipmi

// Source is how parts name this reader.
const Source = "ipmi"

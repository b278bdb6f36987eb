package fleet

import "github.com/ingot-metal/ingot/hardware"

// bmcFindings are the findings about a BMC itself, and about what it watches.
func bmcFindings() []Reason {
	finding := func(code hardware.Code, meaning, cause, hint, evidence string) Reason {
		return Reason{ReasonCode(code), ClassFinding, "BMC", meaning, []string{cause}, hint, evidence}
	}
	return []Reason{
		finding(hardware.CodeBMCStopped, "The BMC stopped answering while it was read; the rest was not asked.", "a BMC that hangs, or that another program keeps busy",
			"ask again; where it stays silent reset the BMC, or take its power", "the last command and its cause in the finding"),
		finding(hardware.CodeCipherZero, "The BMC opens sessions to whoever knows an account's name.", "cipher suite 0 is enabled on a channel",
			"take its privilege away: ipmitool lan set CHANNEL cipher_privs, with X for suite 0", "the channel and the privilege in the finding"),
		finding(hardware.CodeAnonymousUser, "The BMC has an enabled account without a name.", "user 1 was never disabled",
			"disable the account, and give it a password", "the account or the channel in the finding"),
		finding(hardware.CodeDefaultAccount, "The account that the BMC was delivered with is enabled.", "nobody renamed it; its password may be the vendor's",
			"make an account of your own and disable this one, or make sure that its password was changed", "the account in the finding"),
		finding(hardware.CodeNullAuthentication, "The BMC takes IPMI 1.5 sessions without authentication.", "authentication type NONE is enabled on a channel",
			"switch it off for every privilege: ipmitool lan set CHANNEL auth", "the channel and the privileges in the finding"),
		finding(hardware.CodeLogFull, "The BMC's event log is full: new events are lost.", "nobody cleared it",
			"save the log, then clear it", "its size in the finding"),
		finding(hardware.CodeSensorCritical, "A sensor of the BMC is beyond a critical threshold, or reports a failure.", "heat, a fan, a power supply, a voltage",
			"look at the part that the sensor watches", "the sensor and its reading in the finding"),
	}
}

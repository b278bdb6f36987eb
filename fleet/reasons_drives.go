package fleet

import "github.com/ingot-metal/ingot/hardware"

// driveReasons explain what the inventory finds at drives and what they hang
// on.
func driveReasons() []Reason {
	finding := func(code hardware.Code, meaning, cause, hint, evidence string) Reason {
		return Reason{ReasonCode(code), ClassFinding, "inventory", meaning, []string{cause}, hint, evidence}
	}
	return []Reason{
		finding(hardware.CodeDriveFailing, "A drive says that it fails, or soon will.", "worn or damaged media; a drive at the end of its life",
			"save what is on it, and replace the drive that the finding names by serial and slot", "what SMART says, in the finding"),
		finding(hardware.CodeDriveErrors, "A drive has errors that it did not correct, or a self-test that failed.", "damaged sectors; a power cut during a write",
			"replace the drive when the count grows", "the counts in the finding"),
		finding(hardware.CodeDriveWorn, "A drive's rated life is nearly used up.", "many writes over years, or more than it was made for",
			"plan for another drive", "the percentage in the finding"),
		finding(hardware.CodeDriveHot, "A drive is hotter than it may be.", "a fan that failed, a blocked air inlet, a blank that is missing",
			"look at the fans, the air's way and the drive's neighbors", "the temperature and the limit in the finding"),
		finding(hardware.CodeDriveHung, "A drive did not answer in time; the others were read.", "a drive, cable or controller that fails",
			"look for resets of the drive in the kernel's log; replace it when it happens again", "the question that it did not answer, in the finding"),
		finding(hardware.CodeDriveLink, "A drive's link is slower than drive and port can.", "a cable or backplane that sits badly; many errors on the link",
			"reseat the drive; look at its cable and backplane", "both speeds in the finding"),
		finding(hardware.CodeDriveFirmware, "Another firmware of a drive begins with the next reset.", "an update that was loaded and not activated",
			"nothing, when the update was meant", "both versions in the finding"),
		finding(hardware.CodeVolumeDegraded, "An array lacks a drive.", "a drive that failed or was taken out",
			"replace the drive that failed, and add the new one to the array", "the array and how many drives it lacks, in the finding"),
		finding(hardware.CodeEnclosureFault, "A shelf of drives reports a fault of a slot.", "a drive that failed, or was marked by somebody",
			"look at the drive in the slot and at its light; replace the drive, or clear the fault", "the slot in the finding"),
	}
}

package cpu

// armImplementers are the makers of cores by the MIDR's implementer field.
var armImplementers = map[string]string{
	"0x41": "Arm", "0x42": "Broadcom", "0x43": "Cavium", "0x46": "Fujitsu", "0x48": "HiSilicon",
	"0x4e": "NVIDIA", "0x51": "Qualcomm", "0x61": "Apple", "0x6d": "Microsoft", "0x70": "Phytium", "0xc0": "Ampere",
}

// armCores are the cores of servers by implementer and part number. Arm64
// kernels give no name for them.
var armCores = map[string]string{
	"0x41 0xd03": "Cortex-A53", "0x41 0xd07": "Cortex-A57", "0x41 0xd08": "Cortex-A72", "0x41 0xd0b": "Cortex-A76",
	"0x41 0xd0c": "Neoverse-N1", "0x41 0xd40": "Neoverse-V1", "0x41 0xd49": "Neoverse-N2", "0x41 0xd4a": "Neoverse-E1",
	"0x41 0xd4f": "Neoverse-V2", "0x41 0xd83": "Neoverse-V3AE", "0x41 0xd84": "Neoverse-V3", "0x41 0xd8e": "Neoverse-N3",
	"0x42 0x516": "ThunderX2", "0x43 0x0a1": "ThunderX", "0x43 0x0af": "ThunderX2", "0x43 0x0b8": "ThunderX3",
	"0x46 0x001": "A64FX", "0x48 0xd01": "TaiShan-v110", "0x48 0xd02": "TaiShan-v120", "0x4e 0x004": "Carmel",
	"0x6d 0xd49": "Azure-Cobalt-100", "0xc0 0xac3": "Ampere-1", "0xc0 0xac4": "Ampere-1a", "0xc0 0xac5": "Ampere-1b",
}

// arm names a core; what the tables lack is named by its numbers.
func arm(implementer, part string) (maker, model string) {
	maker, model = armImplementers[implementer], armCores[implementer+" "+part]
	if model == "" {
		model = "core " + part + " of implementer " + implementer
	}
	return maker, model
}

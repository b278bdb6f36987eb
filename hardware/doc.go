// Package hardware is the record of one server: what it is made of, who it
// says it is, and what looked wrong when it was read. It is a contract: types
// and pure functions over the standard library. The doers that fill the record
// stand below it: hardware/inventory reads a running Linux, hardware/ipmi and
// hardware/redfish ask the BMC, hardware/render shows the result to a person.
//
// Two values leave a server. The [Inventory] (ingot.inventory/v1) holds what
// stays the same from boot to boot and has a digest. [Readings]
// (ingot.readings/v1) hold what moves: power state, temperatures, fans, link.
//
// A fact that is not known is absent from the JSON. It is never zero, never
// "To Be Filled By O.E.M.", never a serial of nothing but F: see [Clean] and
// [CleanSerial]. Sizes are in bytes, and units stand in the names. Every part
// names in Sources who said so: smbios, firmware, cpu, pci, nic, lldp, tpm,
// storage, ipmi, redfish.
//
// # Glossary
//
//   - alias: a name by which a server may be known again: its UUID in either
//     byte order, a serial, a permanent MAC, the MAC of its BMC. A claim.
//   - BDF: the PCI address, domain:bus:device.function, 0000:3b:00.0.
//   - BIOS: the firmware, whichever mode it was started in (bios or uefi).
//   - BMC: the baseboard management controller.
//   - chassis, baseboard: SMBIOS types 3 and 2.
//   - CPU: one populated socket, SMBIOS type 4; never one core.
//   - DIMM: a populated memory device, SMBIOS type 17. An empty one is only a
//     DIMM slot; DIMM slots lists both.
//   - drive: a whole physical or virtual block device, never a partition.
//   - EDAC: the kernel's counts of memory errors, by DIMM where it knows them.
//   - EK: a TPM's endorsement key, made from a seed that no other chip has.
//   - finding: something a reader noticed that a person should know.
//   - FRU: the field replaceable unit record that a BMC keeps in an EEPROM.
//   - inventory: what a server is, as JSON of schema ingot.inventory/v1.
//   - KCS: the keyboard controller style interface, the in-band way to a BMC.
//   - LAN channel: an IPMI channel with a network port of the BMC behind it.
//   - late reader: one that follows the first report, since it waits for a
//     frame on a cable or asks a slow BMC or drive.
//   - LLDP neighbor: what stands at the other end of a cable, by its own word.
//   - machine key: mac-525400ab12cd, from the lowest permanent physical MAC;
//     how a machine is called before control has allotted it a node ID.
//   - NIC: one network port. What carries several is the adapter.
//   - part: one physical piece, as findings name it: "dimm DIMM_A1".
//   - permanent MAC: the address burnt in, not the one that is set now.
//   - reader: code that reads one source and yields a partial inventory.
//   - readings: what moves, as JSON of schema ingot.readings/v1.
//   - SDR: a record by which a BMC describes a sensor, or where a FRU is.
//   - SEL: the system event log of a BMC.
//   - SMBIOS: the tables of DSP0134 that the firmware leaves in memory.
//   - VPD: the vital product data of a PCI device: its part and serial number.
//   - WWN: the world wide name of a drive: naa., eui. or nvme. identifiers.
package hardware

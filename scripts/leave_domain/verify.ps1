# Whether the computer is in no domain: exit code 0 yes, 1 no.
param([string] $Domain = '', [string] $Workgroup = '', [string] $User = '', [string] $Password = '')
Set-StrictMode -Version 2.0
$ErrorActionPreference = 'Stop'
if ((Get-CimInstance -ClassName Win32_ComputerSystem).PartOfDomain) { exit 1 }
exit 0

# Takes the computer out of its domain. Exit code: 0 in none, 3010 left (a reboot completes it), 1 refused or failed.
param(
    [string] $Domain = '',
    [string] $Workgroup = 'WORKGROUP',
    [string] $User = '',
    [string] $Password = ''
)
Set-StrictMode -Version 2.0
$ErrorActionPreference = 'Stop'

$system = Get-CimInstance -ClassName Win32_ComputerSystem
if (-not $system.PartOfDomain) {
    Write-Output 'the computer is in no domain'
    exit 0
}
# 4 and 5: backup and primary domain controller.
if ($system.DomainRole -ge 4) { throw "a domain controller of $($system.Domain) is not taken out of its domain" }
if ($Domain -ne '' -and $Domain -ne $system.Domain) { throw "the computer is in $($system.Domain), not in $Domain" }

# Afterwards nobody but a local administrator can sign in.
$local = @(Get-CimInstance -ClassName Win32_UserAccount -Filter 'LocalAccount=TRUE AND Disabled=FALSE')
$group = [ADSI] "WinNT://./$((New-Object System.Security.Principal.SecurityIdentifier 'S-1-5-32-544').Translate([System.Security.Principal.NTAccount]).Value.Split('\')[1]),group"
$members = @($group.Invoke('Members') | ForEach-Object { $_.GetType().InvokeMember('ADsPath', 'GetProperty', $null, $_, $null) })
$able = @($local | Where-Object { $name = $_.Name; @($members | Where-Object { $_ -like "*/$env:COMPUTERNAME/$name" }).Count -gt 0 })
if ($able.Count -eq 0) { throw 'no enabled local administrator: nobody could sign in after leaving the domain' }

$arguments = @{ WorkgroupName = $Workgroup; Force = $true; PassThru = $true }
if ($User -ne '') {
    $secure = New-Object System.Security.SecureString
    foreach ($character in $Password.ToCharArray()) { $secure.AppendChar($character) }
    $arguments['UnjoinDomainCredential'] = New-Object System.Management.Automation.PSCredential($User, $secure)
}
$answer = Remove-Computer @arguments
if (-not $answer.HasSucceeded) { throw "the computer could not leave $($system.Domain)" }
Write-Output "left $($system.Domain); a reboot completes it"
exit 3010

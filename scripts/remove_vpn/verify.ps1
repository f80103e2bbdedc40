# Whether the VPN connections are gone from every phone book: exit code 0 yes, 1 no.
param([string] $Name = '', [string] $All = '0')
Set-StrictMode -Version 2.0
$ErrorActionPreference = 'Stop'
$names = @($Name -split ';;' | Where-Object { $_ -ne '' })
$books = @(Join-Path $env:ProgramData 'Microsoft\Network\Connections\Pbk\rasphone.pbk')
foreach ($key in @(Get-ChildItem -LiteralPath 'HKLM:\SOFTWARE\Microsoft\Windows NT\CurrentVersion\ProfileList')) {
    $path = [string] $key.GetValue('ProfileImagePath')
    if ($path -ne '') { $books += Join-Path $path 'AppData\Roaming\Microsoft\Network\Connections\Pbk\rasphone.pbk' }
}
foreach ($book in $books) {
    if (-not (Test-Path -LiteralPath $book -PathType Leaf)) { continue }
    $title = ''
    foreach ($line in @(Get-Content -LiteralPath $book -Encoding UTF8)) {
        # From the first bracket to the last: a name may hold brackets itself.
        if ($line -match '^\[(.*)\]') { $title = $Matches[1] }
        if ($line -ne 'Type=2') { continue }
        if (($All -eq '1') -or ($names -ccontains $title)) { exit 1 }
    }
}
exit 0
